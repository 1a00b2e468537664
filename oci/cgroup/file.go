package cgroup

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// openAt opens a file below dirfd; each call is retried on EINTR. Plain system
// calls, as package os would add every file to the poller: kernfs files can be polled.
func openAt(dirfd int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dirfd, name, flags|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// openFile opens a file or directory as *os.File.
func openFile(path string, flags int) (*os.File, error) {
	fd, err := openAt(unix.AT_FDCWD, path, flags)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

func writeFD(fd int, value string) error {
	for {
		_, err := unix.Write(fd, []byte(value))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// writeAt writes a value to a file below dirfd.
func writeAt(dirfd int, name, value string) error {
	fd, err := openAt(dirfd, name, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return writeFD(fd, value)
}

// readAt reads a whole file below dirfd, without white space at its ends.
func readAt(dirfd int, name string) (string, error) {
	fd, err := openAt(dirfd, name, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var text strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return "", err
		}
		if n == 0 {
			return strings.TrimSpace(text.String()), nil
		}
		text.Write(buf[:n])
	}
}

func mkdir(path string, mode uint32) error {
	for {
		err := unix.Mkdir(path, mode)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return &fs.PathError{Op: "mkdir", Path: path, Err: err}
		}
	}
}

// backoff waits longer each time, up to a bound.
type backoff struct{ next, longest time.Duration }

func newBackoff(longest time.Duration) *backoff {
	return &backoff{next: 200 * time.Microsecond, longest: longest}
}

// sleep waits, or returns ctx's error when that ends first.
func (b *backoff) sleep(ctx context.Context) error {
	timer := time.NewTimer(b.next)
	defer timer.Stop()
	b.next = min(2*b.next, b.longest)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
