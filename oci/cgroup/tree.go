package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Mode says which interface limits resources.
type Mode int

// The modes. A hybrid tree (v1 controllers, and a cgroup2 without any) is V1.
const (
	V1 Mode = 1
	V2 Mode = 2
)

// String is "v1" or "v2".
func (m Mode) String() string {
	if m == V2 {
		return "v2"
	}
	return "v1"
}

// Errors of the package, beside those of the kernel, which are wrapped.
var (
	ErrNoHierarchy   = errors.New("no cgroup hierarchy")
	ErrInvalidPath   = errors.New("invalid cgroup path")
	ErrInvalidLimit  = errors.New("invalid limit")
	ErrBelowUsage    = errors.New("the new memory limit is below what is in use")
	ErrStillOccupied = errors.New("processes are left in the cgroup")
)

// Tree is the node's cgroup hierarchy, as Detect found it. It is safe for
// concurrent use.
type Tree struct {
	mode        Mode
	hierarchies []hierarchy
	unified     string // the mount of cgroup2; "": none

	warn   func(Warning)
	mu     sync.Mutex
	warned map[string]bool // features that warn was called for

	held heldFiles
}

// hierarchy is one mounted hierarchy.
type hierarchy struct {
	dir         string
	controllers []string // v1: those mounted together; v2: those of the root
}

// Warning is something that the node does not grant: berth goes on without it.
type Warning struct {
	Feature string // what it is: "memory.memsw.limit_in_bytes", "hugetlb"
	Err     error  // what the kernel said
}

// Option changes how a Tree works.
type Option func(*Tree)

// OnWarning has warn called once for each feature that the node does not grant,
// from whatever goroutine finds out, one call at a time.
func OnWarning(warn func(Warning)) Option { return func(t *Tree) { t.warn = warn } }

// v1Controllers are the controllers (and systemd's named hierarchy) that berth
// puts a container into.
var v1Controllers = []string{
	"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb", "perf_event", "net_cls", "net_prio", "rdma", "misc", "systemd",
}

// Detect looks at what is mounted at mountpoint ("/sys/fs/cgroup"). Call it
// once, at start. ErrNoHierarchy says that there is nothing.
func Detect(mountpoint string, options ...Option) (*Tree, error) {
	t := &Tree{warned: map[string]bool{}, warn: func(Warning) {}}
	for _, o := range options {
		o(t)
	}
	kind, err := fsType(mountpoint)
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", mountpoint, err)
	}
	if kind == unix.CGROUP2_SUPER_MAGIC {
		text, err := os.ReadFile(filepath.Join(mountpoint, "cgroup.controllers"))
		if err != nil {
			return nil, fmt.Errorf("list controllers: %w", err)
		}
		t.mode, t.unified = V2, mountpoint
		t.hierarchies = []hierarchy{{dir: mountpoint, controllers: strings.Fields(string(text))}}
		return t, nil
	}
	t.mode = V1
	if err := t.detectV1(mountpoint); err != nil {
		return nil, err
	}
	if kind, err := fsType(filepath.Join(mountpoint, "unified")); err == nil && kind == unix.CGROUP2_SUPER_MAGIC {
		t.unified = filepath.Join(mountpoint, "unified")
	}
	return t, nil
}

// detectV1 finds the mounted controllers. Two that are mounted together have two
// names for one directory, mostly by a symbolic link.
func (t *Tree) detectV1(mountpoint string) error {
	byDevice := map[uint64]int{} // device number → index in t.hierarchies
	for _, controller := range v1Controllers {
		dir := filepath.Join(mountpoint, controller)
		kind, err := fsType(dir)
		if err != nil || kind != unix.CGROUP_SUPER_MAGIC {
			continue
		}
		var stat unix.Stat_t
		if err := unix.Stat(dir, &stat); err != nil {
			return fmt.Errorf("look at %s: %w", dir, err)
		}
		if i, ok := byDevice[stat.Dev]; ok {
			t.hierarchies[i].controllers = append(t.hierarchies[i].controllers, controller)
			continue
		}
		byDevice[stat.Dev] = len(t.hierarchies)
		t.hierarchies = append(t.hierarchies, hierarchy{dir: dir, controllers: []string{controller}})
	}
	if len(t.hierarchies) == 0 {
		return fmt.Errorf("%w at %s", ErrNoHierarchy, mountpoint)
	}
	return nil
}

func fsType(dir string) (int64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, err
	}
	return int64(stat.Type), nil
}

// Mode is V1 or V2.
func (t *Tree) Mode() Mode { return t.mode }

// Hybrid says whether a cgroup2 without controllers stands beside v1.
func (t *Tree) Hybrid() bool { return t.mode == V1 && t.unified != "" }

// Controllers lists the controllers that the node has.
func (t *Tree) Controllers() []string {
	var out []string
	for _, h := range t.hierarchies {
		out = append(out, h.controllers...)
	}
	return out
}

// dirs are the mounts in which a group has a directory.
func (t *Tree) dirs() []string {
	out := make([]string, 0, len(t.hierarchies)+1)
	for _, h := range t.hierarchies {
		out = append(out, h.dir)
	}
	if t.Hybrid() {
		out = append(out, t.unified)
	}
	return out
}

// controllerDir is the mount of a controller, "" when the node has none.
func (t *Tree) controllerDir(controller string) string {
	for _, h := range t.hierarchies {
		for _, c := range h.controllers {
			if c == controller {
				return h.dir
			}
		}
	}
	return ""
}

// warnOnce reports that the node lacks a feature, the first time.
func (t *Tree) warnOnce(feature string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.warned[feature] {
		t.warned[feature] = true
		t.warn(Warning{Feature: feature, Err: err})
	}
}
