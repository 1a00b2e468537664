package keeper

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// dupFiles duplicates files by name.
func dupFiles(files map[string]*os.File) (map[string]int, error) {
	out := make(map[string]int, len(files))
	for name, f := range files {
		fd, err := dupFile(f)
		if err != nil {
			closeMap(out)
			return nil, err
		}
		out[name] = fd
	}
	return out, nil
}

// dupFile duplicates a file's descriptor, close-on-exec. Unlike File.Fd it leaves the file's mode alone.
func dupFile(f *os.File) (int, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("use %s: %w", f.Name(), err)
	}
	n, derr := -1, error(nil)
	if err := raw.Control(func(fd uintptr) { n, derr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3) }); err != nil {
		return -1, fmt.Errorf("use %s: %w", f.Name(), err)
	}
	if derr != nil {
		return -1, fmt.Errorf("duplicate %s: %w", f.Name(), derr)
	}
	return n, nil
}

func dupAll(fds []int) ([]int, error) {
	out := make([]int, 0, len(fds))
	for _, fd := range fds {
		n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			closeAll(out...)
			return nil, fmt.Errorf("duplicate descriptor: %w", err)
		}
		out = append(out, n)
	}
	return out, nil
}

func closeAll(fds ...int) {
	for _, fd := range fds {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

func closeMap(fds map[string]int) {
	for _, fd := range fds {
		closeAll(fd)
	}
}

// seal makes a memfd with that content, which nobody can change any more.
func seal(name string, content []byte, flags int) (int, error) {
	flags |= unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags)
	if errors.Is(err, unix.EINVAL) { // MFD_EXEC is of Linux 6.3; before, every memfd is executable
		fd, err = unix.MemfdCreate(name, flags&^unix.MFD_EXEC)
	}
	if err != nil {
		return -1, fmt.Errorf("create memfd %s: %w", name, err)
	}
	for off := 0; off < len(content) && err == nil; {
		var n int
		if n, err = unix.Write(fd, content[off:]); err == unix.EINTR {
			err = nil
		}
		off += max(n, 0)
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("fill memfd %s: %w", name, err)
	}
	return fd, nil
}
