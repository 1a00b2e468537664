package oci

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/berth-runtime/berth/oci/mount"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Terminal is a pseudoterminal for a container's first process or for an exec (pty(7)).
type Terminal struct {
	// Devpts is a detached mount of a devpts instance of the terminal's own, which the container mounts as
	// /dev/pts: the terminal is number 0 there, and /dev/console (Documentation/filesystems/devpts.rst).
	// nil: the terminal is from an instance that is mounted already.
	Devpts *os.File
	Master *os.File
	// Slave keeps the master from reporting a hang-up before the process has opened its own end: close it
	// once the launch is done.
	Slave *os.File
}

// NewTerminal makes a terminal in a devpts instance of its own. Options are those of the spec's devpts
// mount (mode=0620, gid=5, …).
func NewTerminal(options []string) (*Terminal, error) {
	pts, err := mount.New("devpts", options)
	if err != nil {
		return nil, err
	}
	t := &Terminal{Devpts: pts}
	if err := t.open(int(pts.Fd()), "ptmx"); err != nil {
		return nil, errors.Join(fmt.Errorf("open terminal: %w", err), t.Close())
	}
	return t, nil
}

// TerminalFor makes the terminal of a container's first process: in a devpts of its own where the spec
// mounts one. Where it doesn't (a volume is mounted on /dev) the terminal is the host's.
func TerminalFor(spec *specs.Spec) (*Terminal, error) {
	for _, m := range spec.Mounts {
		if m.Type == "devpts" && m.Destination == "/dev/pts" {
			return NewTerminal(Labelled(hostGIDs(m.Options, spec.Linux), mountLabel(spec)))
		}
	}
	t := &Terminal{}
	if err := t.open(unix.AT_FDCWD, "/dev/ptmx"); err != nil {
		return nil, errors.Join(fmt.Errorf("open terminal of the host: %w", err), t.Close())
	}
	return t, nil
}

// hostGIDs translates gid=N for a devpts that is made outside the container's user namespace.
func hostGIDs(options []string, linux *specs.Linux) []string {
	if linux == nil || len(linux.GIDMappings) == 0 {
		return options
	}
	var out []string
	for _, o := range options {
		if text, ok := strings.CutPrefix(o, "gid="); ok {
			gid, err := strconv.ParseUint(text, 10, 32)
			host, mapped := hostID(linux.GIDMappings, uint32(gid))
			if err == nil && !mapped {
				continue // nobody's inside
			}
			o = "gid=" + strconv.FormatUint(uint64(host), 10)
		}
		out = append(out, o)
	}
	return out
}

// JoinTerminal makes one more terminal in a running container, for an exec. root is the container's root
// directory (/proc/PID/root), where /dev/pts has to be a devpts, as what a container puts in its place
// could be anything.
func JoinTerminal(root *os.File) (*Terminal, error) {
	t := &Terminal{}
	pts, err := openPts(root)
	if err == nil {
		err = t.open(int(pts.Fd()), "ptmx")
		pts.Close()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open terminal in the container: %w", err), t.Close())
	}
	return t, nil
}

func openPts(root *os.File) (*os.File, error) {
	fd, err := unix.Openat2(int(root.Fd()), "dev/pts", &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, fmt.Errorf("/dev/pts: %w", err)
	}
	f := os.NewFile(uintptr(fd), "devpts")
	var st unix.Statfs_t
	if err = unix.Fstatfs(fd, &st); err == nil && st.Type != unix.DEVPTS_SUPER_MAGIC {
		err = unix.ENOTTY
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("/dev/pts: %w", err), f.Close())
	}
	return f, nil
}

func (t *Terminal) open(dir int, name string) error {
	master, err := unix.Openat(dir, name, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
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

// GiveTo makes the terminal the process's: its user opens it again by name, as login(1) has it. In a user
// namespace only somebody outside can do that.
func (t *Terminal) GiveTo(p *specs.Process, linux *specs.Linux) error {
	uid := p.User.UID
	if linux != nil && len(linux.UIDMappings) > 0 {
		host, mapped := hostID(linux.UIDMappings, uid)
		if !mapped {
			return nil
		}
		uid = host
	}
	if err := unix.Fchown(int(t.Slave.Fd()), int(uid), -1); err != nil {
		return fmt.Errorf("give terminal to user %d: %w", uid, err)
	}
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
