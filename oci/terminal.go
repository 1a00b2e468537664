package oci

import (
	"errors"
	"fmt"
	"os"

	"github.com/berth-runtime/berth/oci/mount"
	"golang.org/x/sys/unix"
)

// Terminal is a pseudoterminal from a devpts instance of its own, which the container mounts as
// /dev/pts: the terminal is number 0 there, and /dev/console (devpts, Documentation/filesystems/devpts.rst).
type Terminal struct {
	Devpts *os.File // detached mount of the instance
	Master *os.File
	// Slave keeps the master from reporting a hang-up before the process has opened its own end: close it
	// once the launch is done.
	Slave *os.File
}

// NewTerminal makes a terminal. Options are those of the spec's devpts mount (mode=0620, gid=5, …).
func NewTerminal(options []string) (*Terminal, error) {
	pts, err := mount.New("devpts", options)
	if err != nil {
		return nil, err
	}
	t := &Terminal{Devpts: pts}
	if err := t.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open terminal: %w", err), t.Close())
	}
	return t, nil
}

func (t *Terminal) open() error {
	master, err := unix.Openat(int(t.Devpts.Fd()), "ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("ptmx: %w", err)
	}
	t.Master = os.NewFile(uintptr(master), "terminal master")
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	// The peer by its descriptor, not by a name (ioctl_tty(2), Linux 4.13).
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return fmt.Errorf("peer: %w", errno)
	}
	t.Slave = os.NewFile(slave, "terminal slave")
	return nil
}

// Close closes what is open of the terminal; it may be called twice.
func (t *Terminal) Close() error {
	var err error
	for _, f := range []**os.File{&t.Devpts, &t.Master, &t.Slave} {
		if *f != nil {
			err = errors.Join(err, (*f).Close())
			*f = nil
		}
	}
	return err
}
