package rival

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/berth-runtime/berth/test/images"
)

// shim is the program that containerd starts for each pod.
const shim = "containerd-shim-runc-v2"

// build returns the directory of containerd and its shim. They are built into the cache, by the version that is pinned.
func build() (string, error) {
	root, err := images.ModuleRoot()
	if err != nil {
		return "", err
	}
	module := filepath.Join(root, "hack/tools/containerd")
	version, err := pinned(filepath.Join(module, "go.mod"))
	if err != nil {
		return "", err
	}
	return images.Cached("containerd-"+version, func(path string) error {
		const programs = "github.com/containerd/containerd/v2/cmd/"
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
		c := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", path+"/", programs+"containerd", programs+shim)
		c.Dir, c.Env = module, append(os.Environ(), "CGO_ENABLED=0")
		if text, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("%w\n%s", err, strings.TrimSpace(string(text)))
		}
		return nil
	})
}

// pinned is containerd's version in a go.mod.
func pinned(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[1] == "github.com/containerd/containerd/v2" {
			return f[2], nil
		}
	}
	return "", fmt.Errorf("%s pins no containerd", path)
}
