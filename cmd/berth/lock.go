package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// errServed says that another daemon is there already.
var errServed = errors.New("served by a live daemon")

// lockFile is below both root and state: two daemons may share neither.
const lockFile = "berth.lock"

// takeLock makes the directory where it is missing and takes its lock, which ends
// with the process or with Close of the returned file. An error that wraps
// errServed names the daemon that has it.
func takeLock(dir string) (*os.File, error) {
	// 0711: users in a pod's user namespace reach what is theirs below, and list nothing.
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := flock(f); err != nil {
		holder, _ := io.ReadAll(io.LimitReader(f, 32))
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("directory %s is %w (pid %s)", dir, errServed, strings.TrimSpace(string(holder)))
		}
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	// The number is for people only, and for them only while the lock is held.
	if err := f.Truncate(0); err == nil {
		fmt.Fprintln(f, os.Getpid())
	}
	return f, nil
}

// flock takes the lock without waiting. It belongs to the open file (flock(2)), so
// it isn't passed on: the file is close-on-exec.
func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// takeLocks locks root and state, which may be the same directory.
func takeLocks(root, state string) (release func(), err error) {
	stateLock, err := takeLock(state)
	if err != nil {
		return nil, err
	}
	if filepath.Clean(root) == filepath.Clean(state) {
		return func() { stateLock.Close() }, nil
	}
	rootLock, err := takeLock(root)
	if err != nil {
		stateLock.Close()
		return nil, err
	}
	return func() { rootLock.Close(); stateLock.Close() }, nil
}
