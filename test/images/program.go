package images

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Program builds the static Go program of package pkg ("test/images/programs/web")
// for this machine and returns its content. Where there is no Go, as in the tests'
// virtual machine, what was built before must do.
func Program(pkg string) ([]byte, error) {
	root, err := ModuleRoot()
	if err != nil {
		return nil, err
	}
	var content []byte
	err = locked(func(dir string) error {
		out := filepath.Join(dir, "programs", filepath.Base(pkg))
		if _, err := exec.LookPath("go"); err != nil {
			content, err = os.ReadFile(out)
			return err
		}
		c := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out, "./"+pkg)
		c.Dir, c.Env = root, append(os.Environ(), "CGO_ENABLED=0")
		if text, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("go build %s: %w\n%s", pkg, err, strings.TrimSpace(string(text)))
		}
		content, err = os.ReadFile(out)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("build program: %w", err)
	}
	return content, nil
}
