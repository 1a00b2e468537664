package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Processes lists the pids in the group and below it, each once, in order. A
// group that is gone has none.
func (g *Group) Processes() ([]int, error) {
	dirs, err := g.dirs()
	if err != nil {
		return nil, err
	}
	var all []int
	for _, dir := range dirs {
		pids, err := readProcs(dir)
		if err != nil {
			return nil, fmt.Errorf("list processes of cgroup %s: %w", g.path, err)
		}
		all = append(all, pids...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// readProcs lists the pids in the group at dir and below it.
func readProcs(dir string) ([]int, error) {
	text, err := readAt(unix.AT_FDCWD, filepath.Join(dir, "cgroup.procs"))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil, nil // gone, before or while it was read
	}
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) { // a threaded group: its parent lists them
		return nil, err
	}
	var pids []int
	for line := range strings.FieldsSeq(text) {
		pid, err := strconv.Atoi(line)
		if err != nil {
			return nil, err
		}
		if pid != 0 { // a process that our PID namespace cannot see
			pids = append(pids, pid)
		}
	}
	children, err := childGroups(dir)
	if err != nil {
		return nil, err
	}
	for _, child := range children {
		below, err := readProcs(child)
		if err != nil {
			return nil, err
		}
		pids = append(pids, below...)
	}
	return pids, nil
}

// childGroups lists the groups below dir. A directory's link count says whether
// there are any without reading it: kernfs counts directories as others do.
func childGroups(dir string) ([]string, error) {
	var stat unix.Stat_t
	if err := unix.Stat(dir, &stat); errors.Is(err, unix.ENOENT) || err == nil && stat.Nlink == 2 {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out, nil
}

// Kill kills every process in the group and below it, and returns when none is
// left that could make another: on v2 at once, on v1 when the group is empty. It
// reaps nothing and freezes nothing; what is frozen on v1, it thaws. A process in an uninterruptible wait stays:
// then Kill returns when ctx ends, with ctx's error and the number of those left.
func (g *Group) Kill(ctx context.Context) error {
	if _, err := cleanPath(g.path); err != nil {
		return err
	}
	if g.tree.unified != "" {
		// cgroup.kill (Linux 5.14) also catches what forks meanwhile.
		err := writeAt(unix.AT_FDCWD, filepath.Join(g.tree.unified, g.path, "cgroup.kill"), "1")
		if g.tree.mode == V2 && (err == nil || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) && !g.Exists()) {
			return nil
		}
	}
	wait := newBackoff(10 * time.Millisecond)
	for {
		left, err := g.killRound()
		if err != nil {
			return fmt.Errorf("kill cgroup %s: %w", g.path, err)
		}
		if left == 0 {
			return nil
		}
		if err := wait.sleep(ctx); err != nil {
			return fmt.Errorf("kill cgroup %s: %d processes left: %w", g.path, left, err)
		}
		g.thaw()
	}
}

// thaw lets what somebody else froze on v1 go on: unlike on v2, a frozen process there
// doesn't even die (Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst). It does
// what it can; who waits for the end sees whether that was enough.
func (g *Group) thaw() {
	if dir := g.tree.controllerDir("freezer"); dir != "" && g.tree.mode == V1 {
		thawTree(filepath.Join(dir, g.path))
	}
}

func thawTree(dir string) {
	if state, err := readAt(unix.AT_FDCWD, filepath.Join(dir, "freezer.state")); err != nil {
		return
	} else if state != "THAWED" {
		_ = writeAt(unix.AT_FDCWD, filepath.Join(dir, "freezer.state"), "THAWED")
	}
	children, _ := childGroups(dir)
	for _, child := range children {
		thawTree(child)
	}
}

// killRound sends SIGKILL to what is in the group, and says how many that were.
// Each is held by a pidfd before the group is read a second time, so that a pid
// which was reused between reading and killing costs no stranger its life.
func (g *Group) killRound() (int, error) {
	first, err := g.Processes()
	if err != nil || len(first) == 0 {
		return 0, err
	}
	held := make(map[int]int, len(first)) // pid → pidfd
	defer func() {
		for _, fd := range held {
			_ = unix.Close(fd)
		}
	}()
	for _, pid := range first {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			held[pid] = fd
		}
	}
	second, err := g.Processes()
	if err != nil {
		return 0, err
	}
	for _, pid := range second {
		if fd, ok := held[pid]; ok {
			if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
				return 0, fmt.Errorf("signal pid %d: %w", pid, err)
			}
		}
	}
	return len(second), nil
}
