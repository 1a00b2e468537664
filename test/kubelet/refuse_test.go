package kubelet

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRefusal holds the program against what would move all of this machine's processes. It is asked for its help besides,
// so that one that refuses nothing does nothing.
func TestRefusal(t *testing.T) {
	kubelet := program(t)
	dir := t.TempDir()
	for name, text := range map[string]string{"good": "cgroupRoot: /x\n", "yaml": "systemCgroups: /x\n", "json": `{"SystemCgroups": ""}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		args    []string
		refused bool
	}{
		{[]string{"--config=good"}, false},
		{[]string{"--config", "good", "--v=2"}, false},
		{[]string{"--config=yaml"}, true},
		{[]string{"--config", "json"}, true},
		{[]string{"--system-cgroups=/x"}, true},
		{[]string{"--system_cgroups", "/x"}, true},
		{[]string{"--config=good", "--config-dir=" + dir}, true},
		{[]string{"--config=none"}, true},
	} {
		p := exec.Command(kubelet, append(c.args, "--help")...)
		p.Dir = dir
		out, err := p.CombinedOutput()
		var exit *exec.ExitError
		switch {
		case c.refused && (!errors.As(err, &exit) || exit.ExitCode() != 2):
			t.Errorf("%q: %v, wanted exit code 2", c.args, err)
		case !c.refused && (err != nil || !strings.Contains(string(out), "--config")):
			t.Errorf("%q: %v\n%s", c.args, err, out)
		}
	}
}
