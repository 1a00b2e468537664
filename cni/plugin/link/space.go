package link

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ErrGone says that a path leads to no network namespace (any more).
var ErrGone = errors.New("no network namespace")

// nsGetNSType is NS_GET_NSTYPE of ioctl_ns(2), which x/sys/unix does not have.
const nsGetNSType = 0xb703

// Space is an open network namespace and a route netlink socket inside it. It keeps the namespace alive until Close.
// It is safe for concurrent use.
type Space struct {
	path    string
	file    *os.File
	handle  *netlink.Handle
	sockets map[int]*nl.SocketHandle // for the requests that vishvananda/netlink has no words for
}

// Open opens the namespace at path. It is ErrGone when there is none. The caller closes the Space.
func Open(path string) (*Space, error) {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENXIO) { // or there is a socket
		return nil, fmt.Errorf("open %s: %w", path, ErrGone)
	}
	if err != nil {
		return nil, err
	}
	// An unpinned namespace leaves an empty plain file behind, which is as good as gone.
	kind, err := unix.IoctlRetInt(int(file.Fd()), nsGetNSType)
	if err != nil || kind != unix.CLONE_NEWNET {
		_ = file.Close()
		return nil, fmt.Errorf("open %s: %w", path, ErrGone)
	}
	s := &Space{path: path, file: file}
	if err := connect(s); err != nil {
		_ = file.Close()
		return nil, err
	}
	return s, nil
}

// Current opens the namespace of the calling thread. A caller that is not sure of its thread locks it first.
func Current() (*Space, error) {
	return Open("/proc/thread-self/ns/net")
}

func connect(s *Space) error {
	return s.Do(func() error {
		handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink socket in %s: %w", s.path, err)
		}
		socket, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_ROUTE)
		if err != nil {
			handle.Close()
			return fmt.Errorf("open netlink socket in %s: %w", s.path, err)
		}
		// Lets Addresses name an interface in a dump (Linux 4.20); before that the kernel ignores it and we filter.
		_ = unix.SetsockoptInt(socket.GetFd(), unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
		s.handle = handle
		s.sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: socket}}
		return nil
	})
}

// Path is the path that the namespace was opened by.
func (s *Space) Path() string { return s.path }

// FD is the namespace's descriptor. It stays owned by the Space.
func (s *Space) FD() int { return int(s.file.Fd()) }

// Netlink is the handle on NETLINK_ROUTE inside the namespace. It stays owned by the Space.
func (s *Space) Netlink() *netlink.Handle { return s.handle }

// Close gives the namespace up. It may be called once.
func (s *Space) Close() error {
	s.handle.Close()
	for _, socket := range s.sockets {
		socket.Close()
	}
	return s.file.Close()
}

// Do runs fn inside the namespace, on the calling goroutine, which keeps its thread meanwhile. fn must not start goroutines that rely
// on the namespace. A thread that cannot come back stays locked to its goroutine: what that still does is in the wrong namespace,
// for which the error is to stop it, and the thread ends with it (runtime.LockOSThread).
func (s *Space) Do(fn func() error) error {
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open own network namespace: %w", err)
	}
	defer func() { _ = unix.Close(home) }()
	if err := unix.Setns(s.FD(), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace %s: %w", s.path, err)
	}
	err = fn()
	if back := unix.Setns(home, unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, fmt.Errorf("leave network namespace %s: %w", s.path, back))
	}
	runtime.UnlockOSThread()
	return err
}
