package oci

import (
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// mostLinks is how many symlinks a path may have (path_resolution(7)).
const mostLinks = 40

// mountpoint says where a mountpoint that is missing is to be made: at its destination, or where a symlink
// of the root file system leads that has no end, such as /var/run in an image without /run. The kernel makes
// nothing at the end of such a link, and a launch program can't read one. It is no more than a hint: the
// launch opens whatever it is with the container's root as its root.
func mountpoint(root *os.File, destination string) string {
	if fd, err := openInside(root, destination, 0); err != unix.ENOENT {
		if err == nil {
			unix.Close(fd)
		}
		return destination
	}
	at, links := "/", 0
	rest := strings.Split(destination, "/")
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, name)
		target, ok := readLink(root, next)
		if !ok {
			at = next
			continue
		}
		if links++; links > mostLinks {
			return destination // which the launch refuses
		}
		if path.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at
}

// readLink reads a symlink of the root file system; false: there is something else, or nothing.
func readLink(root *os.File, name string) (target string, ok bool) {
	fd, err := openInside(root, name, unix.O_NOFOLLOW)
	if err != nil {
		return "", false
	}
	defer unix.Close(fd)
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	return string(buf[:max(n, 0)]), err == nil && n > 0
}

// openInside opens a path with the root file system as its root, for nothing but to look at it.
func openInside(root *os.File, name string, flags uint64) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | flags, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(int(root.Fd()), name, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}
