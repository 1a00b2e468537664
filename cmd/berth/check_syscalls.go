package main

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/berth-runtime/berth/imagestore/overlay"
	"golang.org/x/sys/unix"
)

// Each probe makes the system call once, in a way that changes nothing on the node.

// clone3 with no arguments at all is EINVAL where it exists (clone(2)).
func clone3() (string, error) {
	_, _, errno := unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(nil)), 0, 0)
	if errno != unix.EINVAL {
		return "", errno
	}
	return "yes", nil
}

func openat2() (string, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(unix.AT_FDCWD, "/", &how)
	if err != nil {
		return "", err
	}
	unix.Close(fd)
	return "RESOLVE_IN_ROOT", nil
}

// detachedMount mounts a tmpfs that is attached nowhere and goes with its
// descriptor.
func detachedMount() (string, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return "", fmt.Errorf("fsconfig: %w", err)
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("fsmount: %w", err)
	}
	unix.Close(mount)
	return "fsopen, fsconfig, fsmount", nil
}

// setGroups sets the groups that the daemon has already. It needs CAP_SETGID, and not to be denied in our own
// user namespace (user_namespaces(7), /proc/PID/setgroups).
func setGroups() (string, error) {
	groups, err := unix.Getgroups()
	if err == nil {
		err = unix.Setgroups(groups)
	}
	if err != nil {
		return "", err
	}
	return "setgroups", nil
}

// mountSetattr makes a detached copy of a mount read-only.
func mountSetattr() (string, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("open_tree: %w", err)
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return "", fmt.Errorf("mount_setattr: %w", err)
	}
	return "recursive read-only", nil
}

func fileSystem(name string) func() (string, error) {
	return func() (string, error) {
		fs, err := unix.Fsopen(name, unix.FSOPEN_CLOEXEC)
		if errors.Is(err, unix.ENODEV) {
			return "", errors.New("not in this kernel, and no module")
		}
		if err != nil {
			return "", fmt.Errorf("fsopen: %w", err)
		}
		unix.Close(fs)
		return "yes", nil
	}
}

func overlayLayers() (string, error) {
	one, err := overlay.OneByOne()
	if err == nil && !one {
		err = errors.New("not in this kernel")
	}
	return "yes", err
}

// erofsLayers asks the kernel alone: what the file system below the images has to say is tried when the daemon starts.
func erofsLayers() (string, error) {
	if _, err := kernel(6, 12)(); err != nil {
		return "", err
	}
	return fileSystem("erofs")()
}

func pidfd() (string, error) {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return "", err
	}
	unix.Close(fd)
	return "yes", nil
}
