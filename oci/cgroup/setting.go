package cgroup

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// setting is one value for one file of a group.
type setting struct {
	controller string
	file       string
	value      string
}

// limits are those of a group: what writes and reads them, on v1 and v2.
type limits struct{ *Group }

// apply writes settings in order. A file that the node does not have or let us
// write is a Warning; a value that the kernel refuses is an error.
//
// Some values are only good together (a period with its quota, below what the
// parent has), and which one must come first depends on the old ones: what is
// refused as EINVAL is tried again after the rest.
func (l limits) apply(settings []setting) error {
	dir := dirCache{group: l.Group, fds: map[string]int{}}
	defer dir.close()
	var again []setting
	for _, s := range settings {
		err := dir.write(s)
		if errors.Is(err, unix.EINVAL) {
			again = append(again, s)
		} else if err := l.judge(s, err); err != nil {
			return err
		}
	}
	for _, s := range again {
		if err := l.judge(s, dir.write(s)); err != nil {
			return err
		}
	}
	return nil
}

// judge turns the outcome of writing s into nil, a Warning or an error.
func (l limits) judge(s setting, err error) error {
	switch {
	case err == nil:
		return nil
	case notGranted(err):
		l.tree.warnOnce(s.file, err)
		return nil
	case errors.Is(err, unix.EBUSY) && s.controller == "memory":
		// v1 reclaims first, and then gives up (memory.limit_in_bytes).
		return fmt.Errorf("%w: write %q to %s: %w", ErrBelowUsage, s.value, s.file, err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("%w: write %q to %s: %w", ErrInvalidLimit, s.value, s.file, err)
	default:
		return fmt.Errorf("write %q to %s: %w", s.value, s.file, err)
	}
}

// notGranted says whether err means that the node lacks something, rather than
// that a value is wrong.
func notGranted(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.EOPNOTSUPP)
}

// dirCache holds the open directories of a group while its files are written.
type dirCache struct {
	group *Group
	fds   map[string]int // mount → descriptor of the group's directory
}

// write writes one setting.
func (d *dirCache) write(s setting) error {
	fd, err := d.open(s.controller)
	if err != nil {
		return err
	}
	return writeAt(fd, s.file, s.value)
}

// open gives the directory of a controller, unix.ENOENT when the node has no such controller.
func (d *dirCache) open(controller string) (int, error) {
	root := d.group.tree.unified
	if d.group.tree.mode == V1 {
		root = d.group.tree.controllerDir(controller)
	}
	if root == "" {
		return -1, unix.ENOENT
	}
	if fd, ok := d.fds[root]; ok {
		return fd, nil
	}
	fd, err := openAt(unix.AT_FDCWD, root+d.group.path, unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) {
		// The group itself is gone: that is no missing feature.
		return -1, fmt.Errorf("cgroup %s is gone: %w", d.group.path, errGone)
	}
	if err != nil {
		return -1, err
	}
	d.fds[root] = fd
	return fd, nil
}

// errGone is unix.ENOENT's stand-in for a whole group, so that it is not taken
// for a file that the kernel does not have.
var errGone = errors.New("no such cgroup")

func (d *dirCache) close() {
	for _, fd := range d.fds {
		_ = unix.Close(fd)
	}
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func utoa(n uint64) string { return strconv.FormatUint(n, 10) }
