// Package runtimes has the OCI runtimes that berth is tested with as handlers: Debian's crun, which
// hack/deps.sh installs, and the runc that hack/tools/runc pins, which is built when it is first asked for.
package runtimes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/berth-runtime/berth/test/images"
)

// Names are the runtimes there are, as handlers.
var Names = []string{"crun", "runc"}

// Path is that of a runtime's program.
func Path(name string) (string, error) {
	if name == "runc" {
		return runc()
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("find %s (make deps installs it): %w", name, err)
	}
	if name == "crun" && hybrid() {
		return withoutUnified(path)
	}
	return filepath.Abs(path)
}

// hybrid says whether the node has controllers in both kinds of cgroup hierarchies, which crun refuses.
func hybrid() bool {
	text, err := os.ReadFile("/sys/fs/cgroup/unified/cgroup.controllers")
	return err == nil && strings.TrimSpace(string(text)) != ""
}

// withoutUnified writes a script that executes a runtime where the unified hierarchy is not seen.
func withoutUnified(path string) (string, error) {
	dir, err := images.CacheDir()
	if err != nil {
		return "", err
	}
	script := filepath.Join(dir, filepath.Base(path)+"-without-unified")
	text := "#!/bin/sh\nexec unshare --mount --propagation slave sh -c 'umount /sys/fs/cgroup/unified && exec \"$0\" \"$@\"' " + path + ` "$@"` + "\n"
	if err := os.WriteFile(script+".new", []byte(text), 0o755); err != nil {
		return "", err
	}
	return script, os.Rename(script+".new", script)
}

// runc builds runc into the cache, unless it is there and newer than what pins it.
func runc() (string, error) {
	root, err := images.ModuleRoot()
	if err != nil {
		return "", err
	}
	dir, err := images.CacheDir()
	if err != nil {
		return "", err
	}
	out, module := filepath.Join(dir, "runc"), filepath.Join(root, "hack/tools/runc")
	built, err := os.Stat(out)
	pinned, perr := os.Stat(filepath.Join(module, "go.mod"))
	if err == nil && perr == nil && built.ModTime().After(pinned.ModTime()) {
		return out, nil
	}
	// By C, as it is written: its nsexec runs before the Go runtime. seccomp needs libseccomp's header.
	c := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags", "seccomp", "-o", out+".new", "github.com/opencontainers/runc")
	c.Dir, c.Env = module, append(os.Environ(), "CGO_ENABLED=1")
	if text, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build runc: %w\n%s", err, strings.TrimSpace(string(text)))
	}
	return out, os.Rename(out+".new", out) // a whole one, also for those who run it just now
}
