package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Group is one control group: the directory at its path in every hierarchy. It
// holds no descriptor, and is safe for concurrent use.
type Group struct {
	tree  *Tree
	path  string
	scope *Manager // nil: systemd knows nothing of it
}

// The modes of directories. The sticky bit means nothing on a cgroup; it marks a
// parent that berth made, and is set by the very call that makes it, so that no
// crash comes between.
const (
	plainMode  = 0o755
	markedMode = plainMode | unix.S_ISVTX
)

// Create makes the group at path, and its missing parents, with limits r (nil:
// none). A group that is there already gets the limits too; one that is empty is
// made anew, with its counters. On error, what
// Create made is removed.
func (t *Tree) Create(path string, r *specs.LinuxResources) (*Group, error) {
	path, err := cleanPath(path)
	if err != nil {
		return nil, err
	}
	g := &Group{tree: t, path: path}
	if err := g.make(r); err != nil {
		// Under no context: rmdir of what was just made does not wait.
		for _, dir := range t.dirs() {
			_ = unix.Rmdir(filepath.Join(dir, path))
		}
		return nil, fmt.Errorf("create cgroup %s: %w", path, err)
	}
	return g, nil
}

func (g *Group) make(r *specs.LinuxResources) error {
	for _, dir := range g.tree.dirs() {
		if err := g.tree.makeDir(dir, g.path); err != nil {
			return err
		}
	}
	if g.tree.mode == V2 {
		return limits{g}.setUpV2(r)
	}
	return limits{g}.setUpV1(r)
}

// makeDir makes the directory path in the hierarchy at root, parents first. It
// tries again when a parent vanishes meanwhile: another pod's end prunes.
func (t *Tree) makeDir(root, p string) error {
	var err error
	for range 10 {
		err = mkdir(filepath.Join(root, p), plainMode)
		if !errors.Is(err, unix.ENOENT) {
			break
		}
		if err = t.makeParents(root, path.Dir(p)); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	// An empty one is made anew: Linux (6.18 at least) kills what is cloned into a group (CLONE_INTO_CGROUP) that
	// cgroup.kill was written to before.
	if errors.Is(err, unix.EEXIST) && unix.Rmdir(filepath.Join(root, p)) == nil {
		err = mkdir(filepath.Join(root, p), plainMode)
	}
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// makeParents makes the directory p and those above it, marking what it makes.
func (t *Tree) makeParents(root, p string) error {
	if p == "/" {
		return nil
	}
	dir := filepath.Join(root, p)
	err := mkdir(dir, markedMode)
	if errors.Is(err, unix.ENOENT) {
		if err := t.makeParents(root, path.Dir(p)); err != nil {
			return err
		}
		err = mkdir(dir, markedMode)
	}
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// marked says whether berth made dir as a parent.
func marked(dir string) bool {
	var s unix.Stat_t
	return unix.Lstat(dir, &s) == nil && s.Mode&unix.S_ISVTX != 0
}

// Prune removes the empty parents of path that berth made, and path itself when
// it is one. It may be called twice, and while others make groups there.
func (t *Tree) Prune(p string) error {
	p, err := cleanPath(p)
	if err != nil {
		return err
	}
	var errs []error
	for _, root := range t.dirs() {
		for at := p; at != "/"; at = path.Dir(at) {
			dir := filepath.Join(root, at)
			if !marked(dir) {
				if at == p {
					continue // the container's own group, gone already or not ours to take
				}
				break
			}
			err := unix.Rmdir(dir)
			if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOTEMPTY) {
				break
			}
			if err != nil && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, fmt.Errorf("remove cgroup %s: %w", dir, err))
				break
			}
		}
	}
	return errors.Join(errs...)
}

// Load is the group at path, whether it exists or not. A path that no group can
// have gives a group whose methods fail with ErrInvalidPath.
func (t *Tree) Load(path string) *Group { return &Group{tree: t, path: path} }

// Path is the group's path from the root of the hierarchy.
func (g *Group) Path() string { return g.path }

// dirs are the group's directories, the one with the most dependable list of
// processes first.
func (g *Group) dirs() ([]string, error) {
	p, err := cleanPath(g.path)
	if err != nil {
		return nil, err
	}
	out := g.tree.dirs()
	for i := range out {
		out[i] = filepath.Join(out[i], p)
	}
	return out, nil
}

// Exists says whether the group has a directory in any hierarchy.
func (g *Group) Exists() bool {
	dirs, err := g.dirs()
	if err != nil {
		return false
	}
	for _, dir := range dirs {
		if unix.Access(dir, unix.F_OK) == nil {
			return true
		}
	}
	return false
}

// Enter opens what a new process needs to get into the group. On v1 and hybrid,
// tasks are the tasks files of the hierarchies, each of which the process writes
// "0" to while it has one thread; on v2 and hybrid, dir is the directory for
// CLONE_INTO_CGROUP. The caller closes them; they are open close-on-exec.
//
// Not cgroup.procs: a write there waits for an RCU grace period, 5 to 30 ms,
// whereas a thread that moves itself takes no lock of its thread group (Linux 5.6,
// cgroup_procs_write_start).
func (g *Group) Enter() (tasks []*os.File, dir *os.File, err error) {
	p, err := cleanPath(g.path)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			for _, f := range tasks {
				_ = f.Close()
			}
			tasks, dir = nil, nil
		}
	}()
	if g.tree.mode == V1 {
		for _, h := range g.tree.hierarchies {
			f, err := openFile(filepath.Join(h.dir, p, "tasks"), unix.O_WRONLY)
			if err != nil {
				return tasks, nil, err
			}
			tasks = append(tasks, f)
		}
	}
	if g.tree.unified != "" {
		if dir, err = openFile(filepath.Join(g.tree.unified, p), unix.O_RDONLY|unix.O_DIRECTORY); err != nil {
			return tasks, nil, err
		}
	}
	return tasks, dir, nil
}

// Adopt moves a running process, with all its threads, into the group; one that
// has ended is a success. On v1 it waits for the kernel, up to 30 ms: see Enter.
func (g *Group) Adopt(pid int) error {
	dirs, err := g.dirs()
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		f, err := openFile(filepath.Join(dir, "cgroup.procs"), unix.O_WRONLY)
		if err == nil {
			_, err = f.WriteString(strconv.Itoa(pid))
			err = errors.Join(err, f.Close())
		}
		if err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("move process %d: %w", pid, err))
		}
	}
	return errors.Join(errs...)
}

// Delete removes the group and what its processes made below it. It may be
// called twice. What the kernel still holds busy is tried again until ctx ends;
// the error then is ErrStillOccupied if processes are left.
func (g *Group) Delete(ctx context.Context) error {
	dirs, err := g.dirs()
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		if err := removeTree(ctx, dir); err != nil {
			errs = append(errs, fmt.Errorf("remove cgroup %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}

// removeTree removes a directory of groups. A group whose last process was just
// reaped may be busy for a moment.
func removeTree(ctx context.Context, dir string) error {
	wait := newBackoff(20 * time.Millisecond)
	for {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
		removeChildren(ctx, dir)
		if err := unix.Rmdir(dir); err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if wait.sleep(ctx) != nil {
			if pids, _ := readProcs(dir); len(pids) > 0 {
				return fmt.Errorf("%w: %d, the first is pid %d", ErrStillOccupied, len(pids), pids[0])
			}
			return err
		}
	}
}

// removeChildren removes the groups below dir, as far as they are empty.
func removeChildren(ctx context.Context, dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.IsDir() && ctx.Err() == nil {
			child := filepath.Join(dir, e.Name())
			removeChildren(ctx, child)
			_ = unix.Rmdir(child)
		}
	}
}
