package vm

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/test/images"
	"github.com/berth-runtime/berth/test/vm/wire"
)

// bootTime bounds a start: some ten seconds on a quiet machine, one on others.
const bootTime = 3 * time.Minute

// Options of a machine. The zero value is an empty one without systemd.
type Options struct {
	Systemd  bool   // systemd as PID 1, with D-Bus
	CgroupV1 bool   // systemd mounts the hierarchies of cgroup v1 instead of the unified one
	Tree     string // a directory to be copied into the machine…
	At       string // …and where it is there
	Disks    []Disk // further ones, which outlive the machine
	Append   string // to the kernel's command line
	Memory   int    // MiB; 0: 3072
	CPUs     int    // 0: 2
}

// Disk is the file of a file system, and where the machine mounts it.
type Disk struct{ File, At string }

// NewDisk makes the file of an empty ext4 file system.
func NewDisk(path string, mib int64) error {
	p, err := build()
	if err != nil {
		return err
	}
	return makeDisk(p.root, path, "", mib, "")
}

// ErrUnsupported says that no machine can be booted here.
var ErrUnsupported = errors.New("the tests' virtual machine needs Debian on amd64, and root")

// Prepare makes what every machine is made from, so that the first needn't.
func Prepare() error {
	_, err := build()
	return err
}

// Boot starts a machine and returns when it answers. Its files are gone with Kill. One that doesn't answer in time is started once more: an emulator that
// is one of four on two processors may not get anywhere.
func Boot(ctx context.Context, o Options) (*Machine, error) {
	m, err := bootOnce(ctx, o)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return bootOnce(ctx, o)
	}
	return m, err
}

func bootOnce(ctx context.Context, o Options) (*Machine, error) {
	if _, err := os.Stat("/etc/debian_version"); err != nil || runtime.GOARCH != "amd64" || os.Geteuid() != 0 {
		return nil, ErrUnsupported
	}
	p, err := build()
	if err != nil {
		return nil, err
	}
	cache, err := images.CacheDir()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Join(cache, "vm"), "run-")
	if err != nil {
		return nil, fmt.Errorf("make directory of the machine: %w", err)
	}
	m := &Machine{dir: dir, running: map[int]*Command{}, ended: make(chan struct{})}
	if err := m.boot(ctx, p, o); err != nil {
		err = fmt.Errorf("boot virtual machine: %w\nits console ends:\n%s", err, m.Console())
		m.Kill()
		return nil, err
	}
	return m, nil
}

func (m *Machine) boot(ctx context.Context, p *parts, o Options) error {
	disks := o.Disks
	if o.Tree != "" {
		work := filepath.Join(m.dir, "work.img")
		if err := makeDisk(p.root, work, o.Tree, 2048, "^has_journal"); err != nil {
			return err
		}
		disks = append([]Disk{{work, o.At}}, disks...)
	}
	initial, err := initramfs(p.root)
	if err == nil {
		err = os.WriteFile(filepath.Join(m.dir, "initramfs"), initial, 0o644)
	}
	if err != nil {
		return err
	}
	listener, err := net.Listen("unix", m.path("port"))
	if err != nil {
		return fmt.Errorf("listen for the machine: %w", err)
	}
	defer listener.Close()
	args, err := m.arguments(p, o, disks)
	if err != nil {
		return err
	}
	m.qemu = tool(p.qemu, "usr/bin/qemu-system-x86_64", args...)
	m.qemu.Env = append(os.Environ(), "TMPDIR="+m.dir, "QEMU_MODULE_DIR="+filepath.Join(p.qemu, "usr/lib/x86_64-linux-gnu/qemu"))
	m.qemu.Stdout, m.qemu.Stderr = &m.said, &m.said
	m.qemu.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	started := make(chan error)
	go func() { // ends with qemu. It is started and waited for here, as Pdeathsig is about the thread.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := m.qemu.Start()
		started <- err
		if err == nil {
			_ = m.qemu.Wait() // by Kill, mostly; else Run says that the machine ended
			close(m.ended)
		}
	}()
	if err := <-started; err != nil {
		m.qemu = nil
		return fmt.Errorf("start qemu: %w", err)
	}
	return m.connect(ctx, listener)
}

// connect waits for qemu to open the port, and for the guest to answer.
func (m *Machine) connect(ctx context.Context, listener net.Listener) error {
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	ready := make(chan error, 1)
	go func() { // ends with the listener or the connection, both closed when Boot fails
		conn, err := listener.Accept()
		if err != nil {
			ready <- err
			return
		}
		m.conn, m.out, m.in = conn, gob.NewEncoder(conn), gob.NewDecoder(conn)
		var hello wire.Message
		if err = m.in.Decode(&hello); err == nil && hello.Exit == nil {
			err = errors.New("an unexpected first word")
		}
		ready <- err
	}()
	select {
	case err := <-ready:
		if err != nil {
			return fmt.Errorf("wait for the guest: %w", err)
		}
		go m.listen() // ends with the connection
		return nil
	case <-m.ended:
		return fmt.Errorf("qemu ended: %s", m.said.String())
	case <-ctx.Done():
		return fmt.Errorf("wait for the guest: %w", ctx.Err())
	}
}

// arguments are qemu's.
func (m *Machine) arguments(p *parts, o Options, disks []Disk) ([]string, error) {
	kernels, err := filepath.Glob(filepath.Join(p.root, "boot/vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		return nil, fmt.Errorf("find kernel: %d are there (%w)", len(kernels), err)
	}
	line := []string{
		"console=ttyS0", "quiet", "loglevel=4", "panic=-1", "reboot=t", "mitigations=off", "no_timer_check", "random.trust_cpu=on",
		"rcupdate.rcu_expedited=1", "rcupdate.rcu_cpu_stall_timeout=120", "nmi_watchdog=0", "nosoftlockup",
	}
	share := filepath.Join(p.qemu, "usr/share")
	args := []string{
		"-L", filepath.Join(share, "qemu"), "-L", filepath.Join(share, "seabios"), "-M", "q35,usb=off,vmport=off,smm=off",
		"-smp", fmt.Sprint(or(o.CPUs, 2)), "-m", fmt.Sprint(or(o.Memory, 3072)),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "file:" + m.path("console"),
		"-kernel", kernels[0], "-initrd", m.path("initramfs"),
		"-object", "rng-random,filename=/dev/urandom,id=rng0", "-device", "virtio-rng-pci,rng=rng0",
		"-device", "virtio-serial-pci", "-chardev", "socket,id=port,path=" + m.path("port"), "-device", "virtserialport,chardev=port,name=" + wire.Port,
		"-drive", "file=" + p.disk + ",format=raw,if=virtio,snapshot=on,cache=unsafe",
	}
	args = append(args, accelerator()...)
	for i, d := range disks {
		args = append(args, "-drive", "file="+d.File+",format=raw,if=virtio,cache=writeback")
		line = append(line, fmt.Sprintf("%svd%c:%s", wire.MountKey, 'b'+i, d.At))
	}
	unified := "systemd.unified_cgroup_hierarchy=0"
	if !o.CgroupV1 {
		unified = "systemd.unified_cgroup_hierarchy=1"
		line = append(line, "cgroup_no_v1=all")
	}
	if o.Systemd {
		line = append(line, wire.SystemdKey, "systemd.unit=vmtest.target", unified, "systemd.log_level=warning", "systemd.show_status=0")
	}
	return append(args, "-append", strings.Join(append(line, o.Append), " ")), nil
}

func or(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}

// accelerator is KVM where the processor has it. A /dev/kvm whose processor shows
// neither VT-x nor SVM can't boot a stock kernel.
func accelerator() []string {
	flags, err := os.ReadFile("/proc/cpuinfo")
	if err == nil && (bytes.Contains(flags, []byte(" vmx ")) || bytes.Contains(flags, []byte(" svm "))) && unix.Access("/dev/kvm", unix.W_OK) == nil {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	return []string{"-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "max,la57=off"}
}
