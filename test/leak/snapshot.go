package leak

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Leak is one thing that is there.
type Leak struct {
	Kind string // mount, namespace, link, rule, cgroup, process, file
	Name string // tells it from all others of its kind
	More string // what helps to find out whose it is
}

func (l Leak) String() string {
	if l.More == "" {
		return l.Kind + " " + l.Name
	}
	return l.Kind + " " + l.Name + " (" + l.More + ")"
}

// Snapshot is what was there at one moment.
type Snapshot struct {
	things map[Leak]bool
}

// Dirs are the directories whose files a snapshot has, when nothing else is said.
var Dirs = []string{"/run", "/var/lib", "/var/log", "/var/run", "/etc", "/tmp", "/opt/cni"}

// Take looks at everything, and at the files below dirs (Dirs when there are none).
// Root sees more than others do.
func Take(dirs ...string) (*Snapshot, error) {
	if len(dirs) == 0 {
		dirs = Dirs
	}
	s := &Snapshot{things: map[Leak]bool{}}
	for _, look := range []func() ([]Leak, error){mounts, links, rules, cgroups, processes, func() ([]Leak, error) { return files(dirs) }} {
		found, err := look()
		if err != nil {
			return nil, err
		}
		for _, l := range found {
			s.things[l] = true
		}
	}
	return s, nil
}

// Since returns what s has and before hasn't, sorted.
func (s *Snapshot) Since(before *Snapshot) []Leak {
	known := map[[2]string]bool{}
	for l := range before.things {
		known[[2]string{l.Kind, l.Name}] = true
	}
	leaks := slices.Collect(maps.Keys(s.things))
	leaks = slices.DeleteFunc(leaks, func(l Leak) bool { return known[[2]string{l.Kind, l.Name}] })
	slices.SortFunc(leaks, func(a, b Leak) int { return strings.Compare(a.String(), b.String()) })
	return leaks
}

// Marked keeps the leaks that have one of marks in them.
func Marked(leaks []Leak, marks []string) []Leak {
	return slices.DeleteFunc(leaks, func(l Leak) bool {
		return !slices.ContainsFunc(marks, func(mark string) bool { return strings.Contains(l.String(), mark) })
	})
}

// Settle takes snapshots until nothing that keep keeps is new since before, or ctx
// ends; it returns what then still is. The kernel takes a network namespace apart
// with its links some milliseconds after its last user has gone.
func Settle(ctx context.Context, before *Snapshot, keep func([]Leak) []Leak, dirs ...string) ([]Leak, error) {
	for {
		after, err := Take(dirs...)
		if err != nil {
			return nil, fmt.Errorf("look for leaks: %w", err)
		}
		leaks := keep(after.Since(before))
		if len(leaks) == 0 {
			return nil, nil
		}
		select {
		case <-ctx.Done():
			return leaks, nil
		case <-time.After(100 * time.Millisecond):
		}
	}
}
