package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/cni"
	"github.com/berth-runtime/berth/oci"
	"github.com/berth-runtime/berth/oci/cgroup"
	"github.com/berth-runtime/berth/oci/mount"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// host is what the life cycle asks of the kernel beside programs and processes.
// The tests of the life cycle have another that needs no root.
type host interface {
	// shm makes a tmpfs for /dev/shm that shows nowhere (mount.NewShared), its root owned by the pod's root, with an
	// SELinux label ("": none).
	shm(size int64, user *spec.UserNamespace, label string) (*os.File, error)
	// below mounts what is at a path below a detached mount; the mount itself may be used up.
	below(mount *os.File, name string) (*os.File, error)
	// mappable says why what is at a path can't be mounted in a user namespace, nil when it can.
	mappable(path string, users *os.File) error
	// pin shows a network namespace at a path; unpin is idempotent.
	pin(namespace *os.File, path string) error
	unpin(path string) error
	// setHostname names the host that a UTS namespace is.
	setHostname(uts *os.File, name string) error
	// namespace opens a namespace of a process.
	namespace(p *process, kind specs.LinuxNamespaceType) (*os.File, error)
	// terminal makes that of a container's first process, joinTerminal one more for an exec.
	terminal(s *specs.Spec) (*oci.Terminal, error)
	joinTerminal(p *process, s *specs.Spec) (*oci.Terminal, error)
	// dial connects to a TCP address in the network namespace at a path; "" is the host's.
	dial(ctx context.Context, namespace, address string) (*net.TCPConn, error)
	// createCgroup may be repeated; the others take groups that are gone.
	createCgroup(path string, r *specs.LinuxResources) (*cgroup.Group, error)
	// markCgroup makes one that nothing will be in.
	markCgroup(path string) error
	cgroup(path string) *cgroup.Group
	// innerCgroup is the one in a container's group that another runtime makes: with systemd not the group itself.
	innerCgroup(path string) (string, error)
	// updateCgroup changes all limits or none; undo takes that back.
	updateCgroup(path string, r *specs.LinuxResources) (undo func() error, err error)
	killCgroup(ctx context.Context, path string) error
	deleteCgroup(ctx context.Context, path string) error
	oomKilled(path string) (bool, error)
	// meter reads what a cgroup uses; counters what passed the interfaces of a network namespace.
	meter(path string) meter
	openNetNS(path string) (*os.File, error)
	counters(namespace *os.File) ([]cni.InterfaceCounters, error)
	// processes looks at those of a cgroup; first is the container's first one.
	processes(path string, first int) (*ProcessMetrics, error)
	// pauseBinary is a sealed copy of berth-keeper, which the host keeps.
	pauseBinary() (*os.File, error)
	// bootID tells one run of the kernel from the next.
	bootID() (string, error)
}

// linux is the host that berth runs on.
type linux struct {
	linuxCgroups
	keeper string // path of berth-keeper

	mu    sync.Mutex
	pause *os.File
}

// linuxCgroups are its cgroups.
type linuxCgroups struct {
	cgroups *cgroup.Tree
	systemd *cgroup.Manager // nil: cgroups are made without it
}

func (l *linux) shm(size int64, user *spec.UserNamespace, label string) (*os.File, error) {
	options := []string{"nosuid", "nodev", "noexec", "mode=1777", fmt.Sprintf("size=%d", size)}
	if user != nil {
		options = append(options, fmt.Sprintf("uid=%d", rootOf(user.UIDs)), fmt.Sprintf("gid=%d", rootOf(user.GIDs)))
	}
	return mount.NewShared("tmpfs", oci.Labelled(options, label))
}

// rootOf is the host's id for 0.
func rootOf(mappings []spec.IDMapping) uint32 {
	for _, m := range mappings {
		if m.ContainerID == 0 && m.Length > 0 {
			return m.HostID
		}
	}
	return 0
}

func (l *linux) pin(namespace *os.File, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("pin namespace: %w", err)
	}
	return mount.Pin(namespace, path)
}

func (l *linux) unpin(path string) error { return mount.Unpin(path) }

var procNamespaces = map[specs.LinuxNamespaceType]string{
	specs.PIDNamespace: "pid", specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc",
	specs.UTSNamespace: "uts", specs.UserNamespace: "user", specs.MountNamespace: "mnt",
	specs.CgroupNamespace: "cgroup", specs.TimeNamespace: "time",
}

func (l *linux) setHostname(uts *os.File, name string) error {
	return inNamespace(uts, specs.UTSNamespace, func() error {
		if err := unix.Sethostname([]byte(name)); err != nil {
			return fmt.Errorf("set hostname %q: %w", name, err)
		}
		return nil
	})
}

// inNamespace runs f on a thread in a network or UTS namespace. A thread that can't come back stays locked, and ends with the
// goroutine (runtime.LockOSThread), whose last work this is to be.
func inNamespace(there *os.File, kind specs.LinuxNamespaceType, f func() error) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/" + procNamespaces[kind])
	if err == nil {
		defer home.Close()
		err = unix.Setns(int(there.Fd()), 0)
	}
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter %s namespace %s: %w", kind, there.Name(), err)
	}
	err = f()
	if back := unix.Setns(int(home.Fd()), 0); back != nil {
		return errors.Join(err, fmt.Errorf("leave %s namespace %s: %w", kind, there.Name(), back))
	}
	runtime.UnlockOSThread()
	return err
}

func (l *linux) namespace(p *process, kind specs.LinuxNamespaceType) (*os.File, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", p.pid, procNamespaces[kind]))
	if err != nil {
		return nil, fmt.Errorf("open %s namespace: %w", kind, err)
	}
	// Only now is it sure that the number was still the process's.
	if !p.alive() {
		f.Close()
		return nil, fmt.Errorf("open %s namespace: process %d has ended", kind, p.pid)
	}
	return f, nil
}

func (l *linux) terminal(s *specs.Spec) (*oci.Terminal, error) {
	t, err := oci.TerminalFor(s)
	if err != nil {
		return nil, err
	}
	return given(t, s)
}

func (l *linux) joinTerminal(p *process, s *specs.Spec) (*oci.Terminal, error) {
	root, err := os.Open(fmt.Sprintf("/proc/%d/root", p.pid))
	if err != nil {
		return nil, fmt.Errorf("open the container's root: %w", err)
	}
	defer root.Close()
	// Only now is it sure that the number was still the process's.
	if !p.alive() {
		return nil, fmt.Errorf("open the container's root: process %d has ended", p.pid)
	}
	t, err := oci.JoinTerminal(root)
	if err != nil {
		return nil, err
	}
	return given(t, s)
}

// given makes a terminal that of the container's user.
func given(t *oci.Terminal, s *specs.Spec) (*oci.Terminal, error) {
	if err := t.GiveTo(s.Process, s.Linux); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

func (l *linux) createCgroup(path string, r *specs.LinuxResources) (*cgroup.Group, error) {
	if l.systemd != nil {
		return l.createScope(path, r)
	}
	return l.cgroups.Create(path, r)
}

// markCgroup asks no systemd, which would want a process for it.
func (l linuxCgroups) markCgroup(path string) error {
	_, err := l.cgroups.Create(path, nil)
	return err
}

func (l linuxCgroups) cgroup(path string) *cgroup.Group { return l.cgroups.Load(path) }

func (l linuxCgroups) innerCgroup(path string) (string, error) {
	if l.systemd == nil {
		return path, nil
	}
	return l.cgroups.Load(path).Inner()
}

func (l linuxCgroups) updateCgroup(path string, r *specs.LinuxResources) (func() error, error) {
	if l.systemd != nil {
		return l.systemd.Managed(l.cgroups, path).Update(r)
	}
	return l.cgroups.Load(path).Update(r)
}

func (l linuxCgroups) killCgroup(ctx context.Context, path string) error {
	if err := l.cgroups.Load(path).Kill(ctx); err != nil {
		return fmt.Errorf("kill cgroup %s: %w", path, err)
	}
	return nil
}

// lateTime is how long a cgroup may be busy before it is killed once more.
const lateTime = 200 * time.Millisecond

// deleteCgroup removes a cgroup, and its parents that berth made. What is in it is
// killed if it stays: a child whose keeper died amid its launch goes on with its
// program, and may enter the cgroup after all others were killed.
func (l linuxCgroups) deleteCgroup(ctx context.Context, path string) error {
	group := l.cgroups.Load(path)
	for {
		attempt, cancel := context.WithTimeout(ctx, lateTime)
		err := group.Delete(attempt)
		late := attempt.Err() != nil && ctx.Err() == nil
		cancel()
		if err == nil {
			return errors.Join(l.scopeGone(path), l.cgroups.Prune(filepath.Dir(path)))
		}
		if late {
			err = l.killCgroup(ctx, path)
		}
		if !late || err != nil {
			return fmt.Errorf("delete cgroup %s: %w", path, err)
		}
	}
}

func (l linuxCgroups) oomKilled(path string) (bool, error) { return l.cgroups.Load(path).OOMKilled() }

func (l *linux) pauseBinary() (*os.File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pause != nil {
		return l.pause, nil
	}
	f, err := sealed(l.keeper)
	if err != nil {
		return nil, fmt.Errorf("copy %s: %w", l.keeper, err)
	}
	l.pause = f
	return f, nil
}

// sealed copies a file to memory, for execution: what runs in a container must not
// be something on the host that the container could write to through /proc/1/exe
// (CVE-2019-5736).
func sealed(path string) (*os.File, error) {
	src, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	fd, err := unix.MemfdCreate("berth-pause", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("berth-pause", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "berth-pause")
	if _, err = io.Copy(f, src); err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (l *linux) bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
