package overlay

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mountByString is for kernels without "lowerdir+". It runs in a thread of its own, which ends with it: its mount namespace and working
// directory are the thread's alone.
func mountByString(o Options) (file *os.File, err error) {
	if o.detached() { // there is nothing that names them in the thread's mount namespace
		return nil, fmt.Errorf("layer on a mount of its own: %w", errors.ErrUnsupported)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread never ends, and is what /proc/self shows: while this goroutine occupies it, the next gets another.
			file, err = mountByString(o)
			runtime.UnlockOSThread()
			return
		}
		// Never unlocked: the thread ends with the goroutine, and its namespace with the thread.
		file, err = mountInThread(o)
	}()
	<-done
	return file, err
}

func mountInThread(o Options) (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Chdir("/proc/thread-self/fd"); err != nil {
		return nil, fmt.Errorf("change directory: %w", err)
	}
	// Opened here, as the kernel takes layers from the caller's own mount namespace only (Linux 5.14, clone_private_mount).
	opened := &shortNames{}
	defer opened.close()
	data, err := opened.data(o)
	if err != nil {
		return nil, err
	}
	if len(data) >= os.Getpagesize() {
		return nil, fmt.Errorf("options of %d bytes: %w", len(data), unix.E2BIG)
	}
	var flags uintptr
	if o.Upper == "" {
		flags = unix.MS_RDONLY
	}
	at := o.Lowers[0].Path // any directory does: nobody else sees it
	if err := unix.Mount("berth", at, "overlay", flags, data); err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, at, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open_tree: %w", err)
	}
	return os.NewFile(uintptr(fd), "overlay"), nil
}

// shortNames names directories by their descriptors, relative to /proc/thread-self/fd: "17" in place of a path of a hundred bytes. mount(2)
// takes a page of options: room for more layers than overlayfs stacks (500).
type shortNames struct {
	fds []int
}

func (s *shortNames) add(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: path, Err: err}
	}
	s.fds = append(s.fds, fd)
	return strconv.Itoa(fd), nil
}

func (s *shortNames) close() {
	for _, fd := range s.fds {
		unix.Close(fd)
	}
}

func (s *shortNames) data(o Options) (string, error) {
	var errs []error
	name := func(path string) string {
		short, err := s.add(path)
		errs = append(errs, err)
		return short
	}
	pairs, options := o.settings()
	for _, pair := range pairs {
		if pair[0] == labelOption {
			pair[1] = `"` + pair[1] + `"` // it has commas (mount(8))
		}
		options = append(options, pair[0]+"="+pair[1])
	}
	if o.Upper != "" { // before the lowers' mapping hides it
		options = append(options, "upperdir="+name(o.Upper), "workdir="+name(o.Work))
	}
	if o.Users != nil {
		if err := coverBase(o); err != nil {
			return "", err
		}
	}
	lowers := make([]string, len(o.Lowers))
	for i, lower := range o.Lowers {
		lowers[i] = name(lower.Path)
	}
	options = append(options, "lowerdir="+strings.Join(lowers, ":"))
	return strings.Join(options, ","), errors.Join(errs...)
}
