package kubelet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/test/harness"
)

const hierarchies = "/sys/fs/cgroup"

// makeCgroups makes a group of this name at the top of every hierarchy, as kubelet's cgroupRoot, which it does not make
// itself. On cgroup v1 a new cpuset is empty and lets nobody in: it gets what the one above it has.
func makeCgroups(name string) error {
	for _, top := range tops() {
		dir := filepath.Join(top, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("make kubelet's cgroup: %w", err)
		}
		if filepath.Base(top) != "cpuset" {
			continue
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			value, err := os.ReadFile(filepath.Join(top, file))
			if err != nil {
				return fmt.Errorf("read the machine's cpuset: %w", err)
			}
			if err := os.WriteFile(filepath.Join(dir, file), value, 0o644); err != nil {
				return fmt.Errorf("fill cpuset: %w", err)
			}
		}
	}
	return nil
}

// removeCgroups removes what makeCgroups made, with all that kubelet made below it. Nobody is in there any more.
func removeCgroups(name string) error {
	var errs []error
	for _, top := range tops() {
		errs = append(errs, removeTree(filepath.Join(top, name)))
	}
	return errors.Join(errs...)
}

// removeTree removes a group and those below it. A group is busy until its last process has been reaped.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read cgroup: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	for range 100 {
		if err = unix.Rmdir(dir); !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove cgroup %s: %w", dir, err)
	}
	return nil
}

// tops are the roots of the hierarchies: one on cgroup v2, on v1 one for each controller.
func tops() []string {
	if harness.UnifiedCgroups() {
		return []string{hierarchies}
	}
	dirs, _ := filepath.Glob(hierarchies + "/*/cgroup.procs") // a constant pattern, and a good one
	for i := range dirs {
		dirs[i] = filepath.Dir(dirs[i])
	}
	return dirs
}
