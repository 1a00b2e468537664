package main

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestMakeDemoBuildsNoMore: who tries berth out waits for what the demo runs, and for nothing else.
func TestMakeDemoBuildsNoMore(t *testing.T) {
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("needs make: it asks what make demo does")
	}
	c := exec.Command("make", "--dry-run", "demo")
	c.Dir = "../.."
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "crictl") || strings.Contains(string(out), "staticcheck") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestFarewellWorksAnywhere: the commands to go on with name programs and files by their whole path.
func TestFarewellWorksAnywhere(t *testing.T) {
	p := place{bin: "/src/bin", root: "/root", state: "/state"}
	var out bytes.Buffer
	farewell(&out, p, "pod0123456789abcdef", "web0123456789abcdef")
	aliases := map[string]string{}
	for _, found := range regexp.MustCompile(`(?m)^ +alias (\w+)="(\S+) --config (\S+)"$`).FindAllStringSubmatch(out.String(), -1) {
		if !filepath.IsAbs(found[2]) || !filepath.IsAbs(found[3]) {
			t.Errorf("relative: %q", found[0])
		}
		aliases[found[1]] = found[3]
	}
	if len(aliases) != 2 || aliases["berth"] != p.config() || aliases["crictl"] != p.file("crictl.yaml") {
		t.Errorf("aliases %v", aliases)
	}
	if text := out.String(); strings.Contains(text, "bin/berth check") || !strings.Contains(text, "berth explain web0123456789 ") || !strings.Contains(text, "berth explain pod0123456789 ") {
		t.Error(text)
	}
}
