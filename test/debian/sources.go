package debian

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sourcesOf returns, in deb822 form, the stanzas of apt's configuration in dir that
// are Debian's (component main, a suite of release), asking for packages of a kind. A
// file of single lines (sources.list) is turned into stanzas.
func sourcesOf(dir, kind, release string) (string, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "sources.list.d", "*"))
	if err != nil {
		return "", fmt.Errorf("find apt's sources: %w", err)
	}
	var out strings.Builder
	for _, path := range append(paths, filepath.Join(dir, "sources.list")) {
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("read apt's sources: %w", err)
		}
		if strings.HasSuffix(path, ".sources") {
			out.WriteString(sourceStanzas(string(b), kind, release))
		} else if strings.HasSuffix(path, ".list") {
			out.WriteString(sourceLines(string(b), kind, release))
		}
	}
	return out.String(), nil
}

// sourceStanzas keeps Debian's stanzas, of one type.
func sourceStanzas(text, kind, release string) string {
	var out, stanza strings.Builder
	main, suite := false, false
	flush := func() {
		if main && suite {
			out.WriteString(stanza.String() + "\n")
		}
		stanza.Reset()
		main, suite = false, false
	}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		key, value, _ := strings.Cut(line, ":")
		switch {
		case strings.TrimSpace(line) == "":
			flush()
			continue
		case strings.HasPrefix(line, "#"):
			continue
		case key == "Types":
			line = "Types: " + kind
		case key == "Components":
			main = slices.Contains(strings.Fields(value), "main")
		case key == "Suites":
			suite = slices.ContainsFunc(strings.Fields(value), func(s string) bool { return suiteOf(s, release) })
		}
		stanza.WriteString(line + "\n")
	}
	flush()
	return out.String()
}

// sourceLines turns Debian's "deb" lines into stanzas.
func sourceLines(text, kind, release string) string {
	var out strings.Builder
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line, options, _ := cutOptions(lines.Text())
		f := strings.Fields(line)
		if len(f) < 4 || f[0] != "deb" || !suiteOf(f[2], release) || !slices.Contains(f[3:], "main") {
			continue
		}
		fmt.Fprintf(&out, "Types: %s\nURIs: %s\nSuites: %s\nComponents: %s\n", kind, f[1], f[2], strings.Join(f[3:], " "))
		for _, o := range strings.Fields(options) {
			if key, value, ok := strings.Cut(o, "="); ok && strings.EqualFold(key, "signed-by") {
				fmt.Fprintf(&out, "Signed-By: %s\n", value)
			}
		}
		out.WriteString("\n")
	}
	return out.String()
}

// cutOptions takes "[key=value …]" out of a line of sources.list(5).
func cutOptions(line string) (rest, options string, found bool) {
	before, after, ok := strings.Cut(line, "[")
	options, tail, closed := strings.Cut(after, "]")
	if !ok || !closed {
		return line, "", false
	}
	return before + tail, options, true
}

// suiteOf says whether suite, as "bookworm-updates", belongs to release or is one
// that Debian names by its role.
func suiteOf(suite, release string) bool {
	name, _, _ := strings.Cut(strings.ReplaceAll(suite, "/", "-"), "-")
	return name == release || slices.Contains([]string{"stable", "testing", "unstable", "sid"}, name)
}

// codename returns VERSION_CODENAME of an os-release(5) file.
func codename(release string) string {
	for line := range strings.Lines(release) {
		if value, ok := strings.CutPrefix(line, "VERSION_CODENAME="); ok {
			return strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return ""
}
