package cgroup

import (
	"context"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Mode says which interface limits resources.
type Mode int

// The modes. A hybrid tree (v1 controllers, and a cgroup2 without any) is V1.
const (
	V1 Mode = 1
	V2 Mode = 2
)

// Tree is the node's cgroup hierarchy, as Detect found it.
type Tree struct{ warn func(Warning) }

// Warning is something that the node does not grant: berth goes on without it.
type Warning struct {
	Feature string // what it is: "memory.memsw.limit_in_bytes", "controller hugetlb"
	Err     error  // what the kernel said
}

// Option changes how a Tree works.
type Option func(*Tree)

// OnWarning has warn called once for each feature that the node does not grant.
// It may be called from several goroutines, one call at a time.
func OnWarning(warn func(Warning)) Option { return func(t *Tree) { t.warn = warn } }

// Detect looks at what is mounted at mountpoint ("/sys/fs/cgroup"). Call it once, at start.
func Detect(mountpoint string, options ...Option) (*Tree, error) { return &Tree{}, nil }

// Mode is V1 or V2.
func (t *Tree) Mode() Mode { return V1 }

// Group is one control group: one directory on v2, one a controller on v1.
type Group struct{}

// Create makes the group at path, and its missing parents, with limits r (nil: none).
func (t *Tree) Create(path string, r *specs.LinuxResources) (*Group, error) { return &Group{}, nil }

// Load is the group at path, whether it exists or not.
func (t *Tree) Load(path string) *Group { return &Group{} }

// Prune removes the empty parents above path that berth made.
func (t *Tree) Prune(path string) error { return nil }

// Path is the group's path from the root of the hierarchy.
func (g *Group) Path() string { return "" }

// Enter opens what a new process needs to get into the group; the caller closes them.
func (g *Group) Enter() (procs []*os.File, dir *os.File, err error) { return nil, nil, nil }

// Processes lists the pids in the group and below it.
func (g *Group) Processes() ([]int, error) { return nil, nil }

// Kill kills every process in the group and below it. It does not wait for the kernel to
// reap them, but returns only when no process is left that could fork another, or ctx ends.
func (g *Group) Kill(ctx context.Context) error { return nil }

// Update changes the limits that r sets, and no others.
func (g *Group) Update(r *specs.LinuxResources) error { return nil }

// OOMKilled says whether the kernel has killed a process of the group for want of memory.
func (g *Group) OOMKilled() (bool, error) { return false, nil }

// Delete removes the group and what is below it. May be called twice.
func (g *Group) Delete(ctx context.Context) error { return nil }

// ParsePath checks a cgroup path of a client.
func ParsePath(path string) (string, error) { return path, nil }
