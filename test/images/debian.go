package images

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// debianSource downloads the source package name into dir. It uses apt with lists
// of its own there: the machine's configuration says where Debian is and which
// keys it signs with, and stays as it was.
func debianSource(dir, name string) error {
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return fmt.Errorf("read the system's name: %w", err)
	}
	sources, err := sourcesWithSource("/etc/apt", codename(string(release)))
	if err != nil {
		return err
	}
	if sources == "" {
		return errors.New("find Debian's sources: /etc/apt names no Debian archive")
	}
	file := filepath.Join(dir, "debian.sources")
	if err := os.WriteFile(file, []byte(sources), 0o644); err != nil {
		return fmt.Errorf("write sources: %w", err)
	}
	for _, d := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return fmt.Errorf("make apt's directories: %w", err)
		}
	}
	options := []string{
		"-o", "Dir::Etc::sourcelist=" + file, "-o", "Dir::Etc::sourceparts=-",
		"-o", "Dir::State::lists=" + filepath.Join(dir, "lists"), "-o", "Dir::Cache=" + filepath.Join(dir, "cache"),
		"-o", "APT::Sandbox::User=root", // it could not write to dir otherwise
	}
	if err := command(dir, nil, "apt-get", append(options, "update")...); err != nil {
		return err
	}
	return command(dir, nil, "apt-get", append(options, "source", "--download-only", name)...)
}

// sourcesWithSource returns, in deb822 form, the stanzas of apt's configuration in
// dir that are Debian's (component main, a suite of release), asking for source
// packages. A file of single lines (sources.list) is turned into stanzas.
func sourcesWithSource(dir, release string) (string, error) {
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
			out.WriteString(sourceStanzas(string(b), release))
		} else if strings.HasSuffix(path, ".list") {
			out.WriteString(sourceLines(string(b), release))
		}
	}
	return out.String(), nil
}

// sourceStanzas keeps Debian's stanzas, with "Types: deb-src".
func sourceStanzas(text, release string) string {
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
			line = "Types: deb-src"
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
func sourceLines(text, release string) string {
	var out strings.Builder
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line, options, _ := cutOptions(lines.Text())
		f := strings.Fields(line)
		if len(f) < 4 || f[0] != "deb" || !suiteOf(f[2], release) || !slices.Contains(f[3:], "main") {
			continue
		}
		fmt.Fprintf(&out, "Types: deb-src\nURIs: %s\nSuites: %s\nComponents: %s\n", f[1], f[2], strings.Join(f[3:], " "))
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
