package mount

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/berth-runtime/berth/oci/program"
	"golang.org/x/sys/unix"
)

// Bind returns a detached copy of the mount tree at a path of the host, with the options applied:
// attributes, propagation (private when they name none), recursion. idmap is a user namespace whose mapping the copy gets, nil for
// none. Symlinks in source are followed. dir says whether the source is a directory.
//
// Errors name the source and the step; a missing source wraps fs.ErrNotExist, a file system that can't be
// idmapped EINVAL. The caller closes the file.
func Bind(source string, o program.MountOptions, idmap *os.File) (file *os.File, dir bool, err error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if o.RecursiveBind {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := retry(func() (int, error) { return unix.OpenTree(unix.AT_FDCWD, source, flags) })
	if err != nil {
		return nil, false, fmt.Errorf("open mount source %s: %w", source, err)
	}
	if o.Propagation == 0 {
		// A copy of a shared mount, as systemd has them all, is its peer: what is mounted on it would show on the host.
		o.Propagation, o.RecursivePropagation = unix.MS_PRIVATE, o.RecursiveBind
	}
	return finish(fd, source, o, idmap)
}

// Clone returns a detached copy of what NewShared made, or of another mount, with the options applied. Before
// Linux 6.15 a detached mount can't be copied: then it is the mount itself, which serves one launch.
func Clone(from *os.File, o program.MountOptions, idmap *os.File) (file *os.File, dir bool, err error) {
	var fd int
	if isSpace(from) {
		fd, err = copyRoot(from)
	} else {
		fd, err = copyTree(int(from.Fd()), "", unix.AT_EMPTY_PATH)
		if errors.Is(err, unix.EINVAL) {
			fd, err = unix.FcntlInt(from.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		}
	}
	if err != nil {
		return nil, false, fmt.Errorf("copy mount %s: %w", from.Name(), err)
	}
	return finish(fd, from.Name(), o, idmap)
}

// Below returns a detached mount of what at refers to, which is below the detached mount from (opened through
// it). Before Linux 6.15 that uses up from, which may be closed and nothing else afterwards. The caller
// closes the file.
func Below(from, at *os.File) (*os.File, error) {
	open := func() (int, error) { return copyTree(int(at.Fd()), "", unix.AT_EMPTY_PATH) }
	fd, err := open()
	if errors.Is(err, unix.EINVAL) {
		fd, err = attached(from, open)
	}
	if err != nil {
		return nil, fmt.Errorf("copy mount %s/%s: %w", from.Name(), at.Name(), err)
	}
	return os.NewFile(uintptr(fd), at.Name()), nil
}

func finish(fd int, name string, o program.MountOptions, idmap *os.File) (*os.File, bool, error) {
	f := os.NewFile(uintptr(fd), name)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, false, errors.Join(fmt.Errorf("stat mount source %s: %w", name, err), f.Close())
	}
	if err := apply(fd, o, idmap); err != nil {
		if idmap != nil && errors.Is(err, unix.EINVAL) {
			err = fmt.Errorf("%w: %w", noMapping(fd), err)
		}
		return nil, false, errors.Join(fmt.Errorf("set options of mount source %s: %w", name, err), f.Close())
	}
	return f, st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

// apply sets attributes and propagation, in as few calls as the options' recursion allows.
func apply(fd int, o program.MountOptions, idmap *os.File) error {
	top := unix.MountAttr{Attr_set: o.Set, Attr_clr: o.Clear &^ o.Set}
	deep := unix.MountAttr{Attr_set: o.RecursiveSet, Attr_clr: o.RecursiveClear}
	keepAtime(&top, o.Clear)
	keepAtime(&deep, o.RecursiveClear)
	if o.RecursivePropagation {
		deep.Propagation = o.Propagation
	} else {
		top.Propagation = o.Propagation
	}
	if idmap != nil {
		at := &top
		if o.RecursiveIDMap {
			at = &deep
		}
		at.Attr_set |= unix.MOUNT_ATTR_IDMAP
		at.Userns_fd = uint64(idmap.Fd())
	}
	if deep != (unix.MountAttr{}) {
		if err := setattr(fd, unix.AT_RECURSIVE, &deep); err != nil {
			return err
		}
	}
	if top != (unix.MountAttr{}) {
		return setattr(fd, 0, &top)
	}
	return nil
}

// keepAtime asks for the whole access time field to be cleared where one of its values is set, as
// mount_setattr(2) demands.
func keepAtime(a *unix.MountAttr, clear uint64) {
	if clear&unix.MOUNT_ATTR__ATIME != 0 {
		a.Attr_clr |= unix.MOUNT_ATTR__ATIME
	}
}

func setattr(fd int, flags uint, a *unix.MountAttr) error {
	_, err := retry(func() (int, error) { return 0, unix.MountSetattr(fd, "", flags|unix.AT_EMPTY_PATH, a) })
	if err != nil {
		return fmt.Errorf("mount_setattr: %w", err)
	}
	return nil
}

// New returns a detached mount of a new instance of a kernel file system (tmpfs, devpts, …). options
// are mount(8)'s. The caller closes the file.
func New(fstype string, options []string) (*os.File, error) {
	o, err := program.ParseMountOptions(options)
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", fstype, err)
	}
	ctx, err := retry(func() (int, error) { return unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC) })
	if err != nil {
		return nil, fmt.Errorf("make %s: fsopen: %w", fstype, err)
	}
	defer unix.Close(ctx)
	for _, d := range append([]string{"source=" + fstype}, o.Data...) {
		if key, value, ok := strings.Cut(d, "="); ok {
			err = unix.FsconfigSetString(ctx, key, value)
		} else {
			err = unix.FsconfigSetFlag(ctx, d)
		}
		if err != nil {
			return nil, fmt.Errorf("make %s: set %s: %w", fstype, d, err)
		}
	}
	if err := unix.FsconfigCreate(ctx); err != nil {
		return nil, fmt.Errorf("make %s: create: %w", fstype, err)
	}
	fd, err := retry(func() (int, error) { return unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, int(o.Set)) })
	if err != nil {
		return nil, fmt.Errorf("make %s: fsmount: %w", fstype, err)
	}
	return os.NewFile(uintptr(fd), fstype), nil
}

// Pin makes a namespace visible at a path of the host: an empty file with the namespace bound over it,
// as ip-netns(8) does. The directory must exist; a path that is taken is an error.
func Pin(namespace *os.File, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("pin namespace: %w", err)
	}
	f.Close()
	source := fmt.Sprintf("/proc/self/fd/%d", namespace.Fd())
	if err := unix.Mount(source, path, "", unix.MS_BIND, ""); err != nil {
		return errors.Join(fmt.Errorf("pin namespace at %s: %w", path, err), os.Remove(path))
	}
	return nil
}

// Unpin takes away what Pin made. A path that is gone, or that is no mount any more, is a success.
func Unpin(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unpin %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("unpin namespace: %w", err)
	}
	return nil
}

func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
