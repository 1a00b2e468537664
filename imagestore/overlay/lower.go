package overlay

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/imagestore/fscontext"
)

// Lower is a layer: a directory, or the root of a mount that is attached nowhere.
type Lower struct {
	// Path is the directory; with Mount, what errors call it.
	Path string
	// Mount is a detached mount, which stays the caller's until Release: an overlay has a copy of its own. Before Linux 6.15 it is attached, where
	// only one Mounter sees it.
	Mount *os.File
}

// Directories are lowers of that many directories.
func Directories(paths ...string) []Lower {
	lowers := make([]Lower, len(paths))
	for i, path := range paths {
		lowers[i].Path = path
	}
	return lowers
}

// Reach is a path by which this process opens the layer's root, for as long as Mount is open.
func (l Lower) Reach() string {
	if l.Mount == nil {
		return l.Path
	}
	return fmt.Sprintf("/proc/self/fd/%d", l.Mount.Fd())
}

// add gives an overlay the layer as it is.
func (l Lower) add(fs *fscontext.Context) error {
	if l.Mount == nil {
		return fs.Path("lowerdir+", l.Path)
	}
	return fs.File("lowerdir+", int(l.Mount.Fd()), l.Path)
}

// clone makes a detached mount of the layer, with these attributes and, unless users is nil, the mapping of that user namespace.
func (l Lower) clone(attributes uint64, users *os.File) (*os.File, error) {
	dir, name, flags := unix.AT_FDCWD, l.Path, uint(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if l.Mount != nil {
		dir, name, flags = int(l.Mount.Fd()), "", flags|unix.AT_EMPTY_PATH
	}
	fd, err := unix.OpenTree(dir, name, flags)
	if err != nil {
		return nil, fmt.Errorf("open_tree %s: %w", l.Path, err)
	}
	attr := unix.MountAttr{Attr_set: attributes}
	if users != nil {
		attr.Attr_set |= unix.MOUNT_ATTR_IDMAP
		attr.Userns_fd = uint64(users.Fd())
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		unix.Close(fd)
		if users != nil && errors.Is(err, unix.EINVAL) {
			err = fmt.Errorf("%w (the file system or kernel has no idmapped mounts: ext4 has them since Linux 5.12, xfs 5.12, btrfs 5.15, tmpfs 6.3)", err)
		}
		return nil, fmt.Errorf("mount_setattr %s: %w", l.Path, err)
	}
	return os.NewFile(uintptr(fd), l.Path), nil
}

// detached tells whether some layer is a mount.
func (o Options) detached() bool {
	for _, lower := range o.Lowers {
		if lower.Mount != nil {
			return true
		}
	}
	return false
}

// mountDetached has no way but "lowerdir+": kernels that don't know it mount no files either.
func (m *Mounter) mountDetached(o Options) (*os.File, error) {
	if !m.oneByOne {
		return nil, fmt.Errorf("layer on a mount of its own: %w (overlayfs takes layers one by one since Linux 6.7)", errors.ErrUnsupported)
	}
	create := m.mountByPieces
	if m.apart.needed(o.Lowers) {
		create = m.mountApart
	}
	file, err := create(o)
	if errors.Is(err, unix.EINVAL) {
		err = fmt.Errorf("%w (overlayfs takes file systems stacked two high)", err)
	}
	return file, err
}

func (m *Mounter) mountApart(o Options) (file *os.File, err error) {
	v, err := newVisit(o)
	if err != nil {
		return nil, err
	}
	defer v.close()
	err = m.apart.do(func(r *room) error {
		file, err = v.mount(r, m.mountByPieces)
		return err
	})
	return file, err
}

func (m *Mounter) bind(lower Lower, users *os.File) (file *os.File, err error) {
	if !m.apart.needed([]Lower{lower}) {
		return lower.clone(unix.MOUNT_ATTR_RDONLY, users)
	}
	err = m.apart.do(func(r *room) error {
		file, err = r.bind(lower, unix.MOUNT_ATTR_RDONLY, users)
		return err
	})
	return file, err
}

// Release closes a mount that was in lowers. Where it isn't called in place of Close, what is mounted may stay until the Mounter is closed.
func (m *Mounter) Release(layer *os.File) error {
	if err := errors.Join(m.apart.release(layer), layer.Close()); err != nil {
		return fmt.Errorf("release layer: %w", err)
	}
	return nil
}

// Close lets go of what Mount and Bind keep for the next. Mounts that were made stay. Both fail afterwards for layers that are mounts, where
// the kernel needs a room for them.
func (m *Mounter) Close() { m.apart.close() }
