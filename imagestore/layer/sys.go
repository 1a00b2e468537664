package layer

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// below keeps a resolution inside the directory that it starts from, with no symlink on the way (openat2(2)).
	below = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

	opaqueXattr = "trusted.overlay.opaque"
	overlayMark = "trusted.overlay."
)

// again repeats a call that a signal interrupted. openat2 also says EAGAIN when something was renamed meanwhile.
func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR && err != unix.EAGAIN {
			return err
		}
	}
}

// openBelow opens a path of any length of components below dir. The caller closes the descriptor.
func openBelow(dir int, path string, flags int) (fd int, err error) {
	if path == "" {
		path = "."
	}
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW), Resolve: below}
	err = again(func() (err error) {
		fd, err = unix.Openat2(dir, path, &how)
		return err
	})
	return fd, err
}

func openDir(dir int, path string) (int, error) {
	return openBelow(dir, path, unix.O_RDONLY|unix.O_DIRECTORY)
}

// openRoot opens the layer's own directory, whose path is the store's and trusted.
func openRoot(path string) (fd int, err error) {
	err = again(func() (err error) {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return err
	})
	return fd, err
}

// createFile makes a new file; EEXIST when the name is taken, by a dangling symlink too (open(2), O_EXCL).
func createFile(dir int, name string) (fd int, err error) {
	err = again(func() (err error) {
		fd, err = unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	return fd, err
}

// statAt doesn't follow a symlink.
func statAt(dir int, name string) (st unix.Stat_t, err error) {
	err = again(func() error { return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return st, err
}

func fileType(st *unix.Stat_t) uint32 { return st.Mode & unix.S_IFMT }

// isWhiteout: "a whiteout is created as a character device with 0/0 device number" (filesystems/overlayfs.rst).
func isWhiteout(st *unix.Stat_t) bool { return fileType(st) == unix.S_IFCHR && st.Rdev == 0 }

func readlinkAt(dir int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

func writeAt(fd int, p []byte, offset int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(fd, p, offset)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		p, offset = p[n:], offset+int64(n)
	}
	return nil
}

// entryPath names an entry of an open directory for the calls that have no *at form (setxattr(2)). The l* forms of those
// follow the descriptor's link and not the entry.
func entryPath(dir int, name string) string {
	return "/proc/self/fd/" + strconv.Itoa(dir) + "/" + name
}

func isOpaque(fd int) (bool, error) {
	var value [1]byte
	n, err := unix.Fgetxattr(fd, opaqueXattr, value[:])
	switch {
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.ENOTSUP):
		return false, nil
	case err != nil:
		return false, err
	}
	return n == 1 && value[0] == 'y', nil
}

func setOpaque(fd int) error {
	return unix.Fsetxattr(fd, opaqueXattr, []byte{'y'}, 0)
}

// startWriting has the kernel write out a file's pages, and doesn't wait (sync_file_range(2)). That it can't, or the disk can't, is what syncfs(2)
// at the pull's end will say.
func startWriting(fd int) {
	_ = unix.SyncFileRange(fd, 0, 0, unix.SYNC_FILE_RANGE_WRITE)
}
