package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// socketMode lets root and the group that owns the socket in.
const socketMode = 0o660

// listen opens the daemon's socket. A socket that somebody answers on is left
// alone (errServed); one that a dead daemon left is replaced. Closing the listener
// doesn't remove the path.
func listen(path string) (net.Listener, error) {
	if err := checkFree(path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return nil, fmt.Errorf("make socket directory: %w", err)
	}
	// bind(2) makes the file with the umask's mode; under another name first, so that
	// nobody can connect before the mode is right, and the old socket goes at once.
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove left-over socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err := publish(fresh, path); err != nil {
		l.Close()
		os.Remove(fresh)
		return nil, err
	}
	return l, nil
}

func publish(fresh, path string) error {
	if err := os.Chmod(fresh, socketMode); err != nil {
		return fmt.Errorf("set mode of socket: %w", err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return fmt.Errorf("put socket in place: %w", err)
	}
	return nil
}

// checkFree refuses a path that a daemon answers on, and one that isn't a socket.
func checkFree(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at socket: %w", err)
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("socket %s: is there and not a socket", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
		return fmt.Errorf("socket %s is %w", path, errServed)
	}
	// connect(2): ECONNREFUSED is a socket that nobody listens on. Anything else
	// (EAGAIN: a full backlog; EACCES) may well be a live daemon.
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("socket %s may be %w: %w", path, errServed, err)
}
