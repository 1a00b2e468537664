package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// resolveLog keeps a log's path below its directory, whatever others put there.
const resolveLog = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// logDirectoryMode is for directories of logs that kubelet has not made.
const logDirectoryMode = 0o755

// openLog opens a container's log for the keeper, below the pod's log directory,
// whose parents it makes. The path comes from the client, and others may have
// written below the directory: no symlink is followed there.
func openLog(directory, name string) (*os.File, error) {
	name = path.Clean(name)
	full := path.Join(directory, name)
	f, err := tryLog(directory, name)
	if errors.Is(err, unix.ENOENT) { // kubelet has made the directories; other clients leave it to the runtime
		if err = makeLogDirectory(directory, path.Dir(name)); err == nil {
			f, err = tryLog(directory, name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open log %s: %w", full, inTheWay(err))
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("open log %s: %w: not a regular file", full, ErrLogPath)
	}
	return f, nil
}

// inTheWay says of an error that something else than a log or its directory is at a path of the client's: ErrLogPath.
// All other errors are the node's trouble.
func inTheWay(err error) error {
	for _, e := range []error{unix.ENOTDIR, unix.EISDIR, unix.ELOOP, unix.ENAMETOOLONG, unix.ENXIO} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", ErrLogPath, err)
		}
	}
	return err
}

func tryLog(directory, name string) (*os.File, error) {
	dir, err := unix.Open(directory, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	// O_NONBLOCK, lest a FIFO in its place blocks the open.
	fd, err := openat2(dir, name, &unix.OpenHow{
		Flags: unix.O_WRONLY | unix.O_APPEND | unix.O_CREAT | unix.O_CLOEXEC | unix.O_NONBLOCK, Mode: 0o640, Resolve: resolveLog,
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// makeLogDirectory makes the pod's log directory and a path below it.
func makeLogDirectory(directory, below string) error {
	if err := os.MkdirAll(directory, logDirectoryMode); err != nil {
		return err
	}
	dir, err := unix.Open(directory, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { unix.Close(dir) }()
	for part := range strings.SplitSeq(below, "/") {
		if err := unix.Mkdirat(dir, part, logDirectoryMode); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("make directory %s: %w", part, err)
		}
		next, err := openat2(dir, part, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: resolveLog})
		if err != nil {
			return fmt.Errorf("open directory %s: %w", part, err)
		}
		unix.Close(dir)
		dir = next
	}
	return nil
}
