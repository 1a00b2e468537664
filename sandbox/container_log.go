package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// openLog opens a container's log for the keeper, below the pod's log directory,
// whose parents it makes. The path comes from the client, and others may have
// written below the directory: no symlink is followed there.
func openLog(directory, name string) (*os.File, error) {
	// kubelet has made it; other clients leave it to the runtime.
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return nil, fmt.Errorf("make log directory: %w", err)
	}
	dir, err := unix.Open(directory, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open log directory %s: %w", directory, err)
	}
	defer func() { unix.Close(dir) }()
	const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS
	parent, file := path.Split(path.Clean(name))
	for part := range strings.SplitSeq(strings.Trim(parent, "/"), "/") {
		if part == "" {
			continue
		}
		if err := unix.Mkdirat(dir, part, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, fmt.Errorf("make log directory %s: %w", part, err)
		}
		next, err := openat2(dir, part, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: resolve})
		if err != nil {
			return nil, fmt.Errorf("open log directory %s: %w", part, err)
		}
		unix.Close(dir)
		dir = next
	}
	// O_NONBLOCK, lest a FIFO in its place blocks the open.
	fd, err := openat2(dir, file, &unix.OpenHow{
		Flags: unix.O_WRONLY | unix.O_APPEND | unix.O_CREAT | unix.O_CLOEXEC | unix.O_NONBLOCK, Mode: 0o640, Resolve: resolve,
	})
	if err != nil {
		return nil, fmt.Errorf("open log %s: %w", path.Join(directory, name), err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return nil, fmt.Errorf("open log %s: not a regular file", path.Join(directory, name))
	}
	return os.NewFile(uintptr(fd), path.Join(directory, name)), nil
}
