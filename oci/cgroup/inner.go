package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The groups below a scope that another runtime's container is in.
const (
	innerGroup  = "container"
	holderGroup = "holder"
)

// Inner is the path of a group below a scope that is left for somebody who wants an empty one to make: the scope's own
// has the process that holds it, which moves aside, as a group of cgroup v2 with processes can't give its controllers
// to others (cgroups(7), "no internal processes"). Limits of the scope hold for what is below it. It may be called
// again. On v1, and for what is no scope, it is the group itself.
func (g *Group) Inner() (string, error) {
	if g.tree.mode != V2 || path.Ext(g.path) != ".scope" {
		return g.path, nil
	}
	dir := filepath.Join(g.tree.unified, g.path)
	aside := &Group{tree: g.tree, path: path.Join(g.path, holderGroup)}
	if err := os.Mkdir(filepath.Join(dir, holderGroup), 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		return "", fmt.Errorf("move the holder of cgroup %s aside: %w", g.path, err)
	}
	pids, err := readProcs(dir)
	if err != nil {
		return "", fmt.Errorf("move the holder of cgroup %s aside: %w", g.path, err)
	}
	for _, pid := range pids {
		if err := aside.Adopt(pid); err != nil {
			return "", err
		}
	}
	return path.Join(g.path, innerGroup), nil
}

// ErrNoDir: on cgroup v1 a group has a directory in each of several hierarchies.
var ErrNoDir = errors.New("not possible with cgroup v1")

// Dir is the group's directory on the host.
func (g *Group) Dir() (string, error) {
	if g.tree.mode != V2 {
		return "", ErrNoDir
	}
	return filepath.Join(g.tree.unified, g.path), nil
}
