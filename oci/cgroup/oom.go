package cgroup

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// OOMKilled says whether the kernel has killed a process of the group for want
// of memory. Ask before Delete: the counters go with the group. A group without
// memory controller has no such counter, and none was killed by it.
func (g *Group) OOMKilled() (bool, error) {
	file, root := "memory.events", g.tree.unified
	if g.tree.mode == V1 {
		file, root = "memory.oom_control", g.tree.controllerDir("memory")
	}
	path, err := cleanPath(g.path)
	if err != nil {
		return false, err
	}
	if root == "" {
		return false, nil
	}
	dirfd, err := openAt(unix.AT_FDCWD, root+path, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return false, fmt.Errorf("open cgroup %s: %w", g.path, err)
	}
	defer unix.Close(dirfd)
	text, err := readAt(dirfd, file)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s of cgroup %s: %w", file, g.path, err)
	}
	return oomKills(text), nil
}

// oomKills says whether the text of memory.events or memory.oom_control counts a
// kill: oom_kill (Linux 4.13), or oom_group_kill (5.17) for a group that dies as
// one (memory.oom.group).
func oomKills(text string) bool {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if (key == "oom_kill" || key == "oom_group_kill") && strings.Trim(value, "0") != "" {
			return true
		}
	}
	return false
}
