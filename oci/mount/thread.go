package mount

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// attached calls open while the detached mount from is attached, in a mount namespace that lives no longer:
// before Linux 6.15 the kernel copies only what is attached where the caller is (fs/namespace.c, check_mnt).
func attached(from *os.File, open func() (int, error)) (fd int, err error) {
	inThread(func() {
		if err = attachHere(from); err == nil {
			fd, err = open()
		}
	})
	return fd, err
}

// inThread calls f in a thread that ends with it, so that what f does to its namespaces and working directory
// is nobody else's.
func inThread(f func()) {
	done := make(chan struct{})
	go func() { // ends with f
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread must stay as it is: while this goroutine occupies it, the next gets another.
			inThread(f)
			runtime.UnlockOSThread()
			return
		}
		f() // never unlocked: the thread ends with the goroutine, and its namespace with the thread
	}()
	<-done
}

func attachHere(from *os.File) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.MoveMount(int(from.Fd()), "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount: %w", err)
	}
	return nil
}
