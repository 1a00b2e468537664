package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/cni"
	"github.com/berth-runtime/berth/imagestore"
	"github.com/berth-runtime/berth/oci"
	"github.com/berth-runtime/berth/oci/cgroup"
	"github.com/berth-runtime/berth/oci/program"
	"github.com/berth-runtime/berth/sandbox/keeper"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// world is a node of fakes that needs no root: what is in it outlives daemons.
// Containers' processes are real ones, so that pidfds and signals are.
type world struct {
	t   *testing.T
	dir string

	mu           sync.Mutex
	boot         string
	addresses    map[string]bool                  // by pod
	pins         map[string]bool                  // by path
	cgroups      map[string]bool                  // by path
	hostnames    []string                         // that were set
	limits       map[string]*specs.LinuxResources // what cgroups were updated to
	oom          map[string]bool                  // cgroups in which the kernel has killed
	usage        map[string]cgroup.Usage          // by cgroup
	readings     map[string]int                   // by cgroup
	closedMeters []string                         // by cgroup
	snapshots    map[string]bool                  // by container
	groups       []int                            // of processes, one for each launch
	kept         map[string]*keptFake
	connected    *daemon

	showPods bool     // Config.ShowPods
	spare    bool     // namespaces are made ahead, as by nobody's order
	command  []string // what a container runs
	busy     func()   // called in Network.Add
}

// keptFake is what the fake keeper has under a key.
type keptFake struct {
	pid     int
	pidfd   *os.File
	files   map[string]*os.File
	exit    *keeper.Exit
	ended   chan struct{}
	oneshot bool

	mu     sync.Mutex
	output bytes.Buffer // what it wrote to its streams
	taps   []*os.File
}

func newWorld(t *testing.T) *world {
	w := &world{
		t: t, dir: t.TempDir(), boot: "boot 1", addresses: map[string]bool{}, pins: map[string]bool{}, cgroups: map[string]bool{}, limits: map[string]*specs.LinuxResources{},
		oom: map[string]bool{}, usage: map[string]cgroup.Usage{}, readings: map[string]int{}, snapshots: map[string]bool{}, kept: map[string]*keptFake{}, command: []string{"sleep", "1000"},
	}
	rootfs := filepath.Join(w.dir, "rootfs", "etc")
	if err := os.MkdirAll(rootfs, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(rootfs, "passwd"), []byte("root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, k := range w.kept {
			if k.pidfd != nil {
				_ = unix.PidfdSendSignal(int(k.pidfd.Fd()), unix.SIGKILL, nil, 0)
			}
		}
		for _, g := range w.groups { // what a process left in the background, too
			_ = unix.Kill(-g, unix.SIGKILL)
		}
	})
	return w
}

// errDead is what a killed daemon's calls get: they have no effect any more.
var errDead = errors.New("daemon was killed")

// daemon is one life of a daemon in a world.
type daemon struct {
	*world
	m     *Manager
	exits chan keeper.Exit

	ops    []string
	faults map[string]error
	dieAt  int // number of the operation before which it is killed; 0: never

	failFrom, failTo int         // numbers of operations that fail
	chance           func() bool // whether one fails; nil: never

	dead    bool
	failure chan struct{} // closed when dead
}

// start starts a daemon; it is closed at the test's end.
func (w *world) start() *daemon {
	w.t.Helper()
	d := w.prepare()
	if err := d.open(); err != nil {
		w.t.Fatal(err)
	}
	return d
}

// prepare makes a daemon that is not open yet, and has the keeper's attention.
func (w *world) prepare() *daemon {
	d := &daemon{world: w, exits: make(chan keeper.Exit, 1000), faults: map[string]error{}, failure: make(chan struct{})}
	w.mu.Lock()
	w.connected = d
	for key, k := range w.kept {
		if k.exit != nil && !k.oneshot {
			exit := *k.exit
			exit.Key = key
			d.exits <- exit
		}
	}
	w.mu.Unlock()
	return d
}

func (d *daemon) open() error {
	log := logrus.New()
	log.SetOutput(io.Discard)
	if testing.Verbose() {
		log.SetOutput(d.t.Output())
	}
	cfg := DefaultConfig()
	cfg.SpareNamespaces = d.spare
	cfg.Root, cfg.State, cfg.NetNSDir = d.dir, filepath.Join(d.dir, "state"), filepath.Join(d.dir, "netns")
	cfg.ShowPods = d.showPods
	r := newRecords(cfg.Root)
	write, remove := r.write, r.remove
	r.write = func(path string, line []byte) (int64, error) {
		word, _, _ := strings.Cut(string(line), " ")
		if err := d.at("write " + word); err != nil {
			return 0, err
		}
		return write(path, line)
	}
	r.remove = func(path string) error {
		if err := d.at("remove record"); err != nil {
			return err
		}
		return remove(path)
	}
	read := r.read
	r.read = func(path string) ([]byte, error) {
		if err := d.at("read record " + filepath.Base(path)); err != nil {
			return nil, err
		}
		return read(path)
	}
	parts := Parts{Network: fakeNetwork{d}, Images: fakeImages{d}, Keeper: fakeKeeper{d}, Programs: fakePrograms{}, Log: log}
	m, err := open(d.t.Context(), cfg, parts, fakeHost{d}, r)
	if err != nil {
		return err
	}
	d.m = m
	d.t.Cleanup(func() {
		d.kill()
		if err := m.Close(); err != nil {
			d.t.Error(err)
		}
	})
	return nil
}

// kill kills a daemon: nothing that it does from now on has an effect.
func (d *daemon) kill() {
	d.mu.Lock()
	d.die()
	d.mu.Unlock()
	if d.m != nil {
		for _, p := range d.m.index.allPods() {
			_, _ = d.m.readProgram(p, "") // waits until what it was writing is written
		}
	}
}

func (d *daemon) die() {
	if !d.dead {
		d.dead = true
		close(d.failure)
		d.m.hurryIfAny()
	}
	if d.connected == d {
		d.connected = nil
	}
}

func (m *Manager) hurryIfAny() {
	if m != nil {
		m.hurry(errDead)
		m.tasks.end(errDead)
	}
}

// at notes an operation, and is the error that it is to have.
func (d *daemon) at(op string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		d.mu.Unlock()
		time.Sleep(2 * time.Millisecond) // its contexts are about to end: what it does to processes would have an effect
		d.mu.Lock()
		return errDead
	}
	d.ops = append(d.ops, op)
	if d.dieAt == len(d.ops) {
		d.die()
		return errDead
	}
	if n := len(d.ops); d.failFrom > 0 && n >= d.failFrom && n <= d.failTo || d.chance != nil && d.chance() {
		return fmt.Errorf("%s: %w", op, errFault)
	}
	err := d.faults[op]
	if errors.Is(err, keeper.ErrInterrupted) {
		delete(d.faults, op) // its successor is well
	}
	return err
}

// fail makes an operation fail from now on; nil: no more.
func (d *daemon) fail(op string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults[op] = err
}

// do notes an operation and does it under the world's lock.
func (d *daemon) do(op string, f func()) error {
	if err := d.at(op); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
	return nil
}

type fakeNetwork struct{ *daemon }

func (n fakeNetwork) Add(_ context.Context, a cni.Attachment) (*cni.Result, error) {
	if n.busy != nil {
		n.busy()
	}
	if err := n.do("network add", func() { n.addresses[a.ID] = true }); err != nil {
		return nil, err
	}
	return &cni.Result{IPs: []netip.Addr{netip.MustParseAddr("10.1.2.3")}}, nil
}

func (n fakeNetwork) Reserve(cni.Attachment) error { return n.do("network reserve", func() {}) }

func (n fakeNetwork) Del(_ context.Context, a cni.Attachment) error {
	return n.do("network del", func() { delete(n.addresses, a.ID) })
}

func (n fakeNetwork) GC(_ context.Context, valid []string) error {
	return n.do("network gc", func() {
		maps.DeleteFunc(n.addresses, func(id string, _ bool) bool { return !slices.Contains(valid, id) })
	})
}

func (n fakeNetwork) Status() error                    { return n.faults["network status"] }
func (n fakeNetwork) SetPodCIDRs([]netip.Prefix) error { return nil }

type fakeImages struct{ *daemon }

var fakeImage = &imagestore.Image{ID: "sha256:1234", Tags: []string{"docker.io/library/web:1"}, Digests: []string{"docker.io/library/web@sha256:5678"}}

func (i fakeImages) Image(ref string) (*imagestore.Image, error) {
	if ref != fakeImage.ID && !slices.Contains(fakeImage.Tags, ref) {
		return nil, fmt.Errorf("find image %s: %w", ref, imagestore.ErrNotFound)
	}
	return fakeImage, nil
}

func (i fakeImages) PrepareSnapshot(_ context.Context, key, _ string) error {
	return i.do("prepare snapshot", func() { i.snapshots[key] = true })
}

func (i fakeImages) MountSnapshot(string, string) (*os.File, error) {
	if err := i.at("mount snapshot"); err != nil {
		return nil, err
	}
	return os.Open(filepath.Join(i.dir, "rootfs"))
}

func (i fakeImages) PrepareMapped(_ context.Context, key, _ string, _ imagestore.IDMap) error {
	return i.do("prepare snapshot", func() { i.snapshots[key] = true })
}

func (i fakeImages) PrepareView(_ context.Context, key, _ string) error {
	return i.do("prepare view", func() { i.snapshots[key] = true })
}

func (i fakeImages) MountMapped(key string, _ *os.File, label string) (*os.File, error) {
	return i.MountSnapshot(key, label)
}

func (i fakeImages) CheckMapping(*os.File) error { return i.at("check mapping") }

func (i fakeImages) CopyVolume(string, int, *os.File, string) error { return i.at("copy volume") }

func (i fakeImages) VolumePath(key string, number int) string {
	return filepath.Join(i.dir, fmt.Sprint(key, number))
}

func (i fakeImages) RemoveSnapshot(key string) error {
	return i.do("remove snapshot", func() { delete(i.snapshots, key) })
}

func (i fakeImages) Mountpoint() string { return i.dir }

func (i fakeImages) SnapshotUsage(key string) (imagestore.SnapshotUsage, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.snapshots[key] {
		return imagestore.SnapshotUsage{}, imagestore.ErrNotFound
	}
	return imagestore.SnapshotUsage{Bytes: 4096, Inodes: 3, At: time.Now()}, nil
}

func (i fakeImages) Snapshots() (out []string, err error) {
	err = i.do("list snapshots", func() { out = slices.Collect(maps.Keys(i.snapshots)) })
	return out, err
}

type fakePrograms struct{}

func emptyLaunch() *oci.Launch {
	return &oci.Launch{Program: &program.Program{Clone: program.Clone{Cgroup: program.NoSlot}}}
}

// PreparePod sends at once what the program would.
func (fakePrograms) PreparePod(in oci.Pod) (*oci.Launch, error) {
	var fds []int
	for range in.Namespaces {
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		defer unix.Close(fd)
		fds = append(fds, fd)
	}
	return emptyLaunch(), unix.Sendmsg(int(in.Socket.Fd()), []byte("x"), unix.UnixRights(fds...), nil, 0)
}

func (fakePrograms) PreparePause(oci.Pause) (*oci.Launch, error) { return emptyLaunch(), nil }

func (fakePrograms) PrepareContainer(in oci.Container) (*oci.Launch, error) {
	l := emptyLaunch()
	l.Files = ends(in.Terminal, in.Stdin, in.Stdout, in.Stderr)
	return l, nil
}

// ends are what a process gets as its first descriptors.
func ends(t *oci.Terminal, in, out, err *os.File) []*os.File {
	if t != nil {
		return []*os.File{t.Slave, t.Slave, t.Slave}
	}
	return []*os.File{in, out, err}
}

func (fakePrograms) Clamp(p *specs.Process) *specs.Process { return p }

func (fakePrograms) PrepareCommand(in oci.Command) (*oci.Launch, error) {
	l := emptyLaunch()
	l.Program.Slots = in.Args // for the fake keeper to run
	l.Files = ends(nil, in.Stdin, in.Stdout, in.Stderr)
	return l, nil
}

func (fakePrograms) PrepareExec(in oci.Exec) (*oci.Launch, error) {
	l := emptyLaunch()
	l.Program.Slots = in.Process.Args // for the fake keeper to run
	l.Files = ends(in.Terminal, in.Stdin, in.Stdout, in.Stderr)
	return l, nil
}

type fakeHost struct{ *daemon }

func (h fakeHost) shm(int64, *spec.UserNamespace, string) (*os.File, error) {
	if err := h.at("make shm"); err != nil {
		return nil, err
	}
	return os.Open(os.DevNull)
}

func (h fakeHost) below(mount *os.File, name string) (*os.File, error) {
	return os.Open(filepath.Join(mount.Name(), name))
}

func (h fakeHost) mappable(string, *os.File) error { return nil }

func (h fakeHost) pin(_ *os.File, path string) error {
	return h.do("pin", func() { h.pins[path] = true })
}

func (h fakeHost) unpin(path string) error {
	return h.do("unpin", func() { delete(h.pins, path) })
}

func (h fakeHost) setHostname(_ *os.File, name string) error {
	return h.do("set hostname", func() { h.hostnames = append(h.hostnames, name) })
}

func (h fakeHost) namespace(*process, specs.LinuxNamespaceType) (*os.File, error) {
	return os.Open(os.DevNull)
}

// terminal is one of the host's.
func (h fakeHost) terminal(*specs.Spec) (*oci.Terminal, error) {
	if err := h.at("make terminal"); err != nil {
		return nil, err
	}
	return oci.TerminalFor(&specs.Spec{})
}

func (h fakeHost) joinTerminal(*process, *specs.Spec) (*oci.Terminal, error) {
	return h.terminal(nil)
}

func (h fakeHost) createCgroup(path string, r *specs.LinuxResources) (*cgroup.Group, error) {
	return &cgroup.Group{}, h.do("create cgroup", func() { h.cgroups[path], h.limits[path] = true, r })
}

func (h fakeHost) markCgroup(path string) error {
	return h.do("mark cgroup", func() { h.cgroups[path] = true })
}

func (h fakeHost) cgroup(string) *cgroup.Group { return nil }

func (h fakeHost) updateCgroup(path string, r *specs.LinuxResources) (func() error, error) {
	h.mu.Lock()
	old := h.limits[path]
	h.mu.Unlock()
	return func() error { return h.do("take back", func() { h.limits[path] = old }) }, h.do("update cgroup", func() { h.limits[path] = r })
}

func (h fakeHost) killCgroup(context.Context, string) error { return h.at("kill cgroup") }

func (h fakeHost) deleteCgroup(_ context.Context, path string) error {
	return h.do("delete cgroup", func() { delete(h.cgroups, path) })
}

func (h fakeHost) oomKilled(path string) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.oom[path], nil
}

// meter measures what the test says that cgroups use; one that isn't there is gone.
func (h fakeHost) meter(path string) meter { return fakeMeter{h, path} }

type fakeMeter struct {
	host fakeHost
	path string
}

func (f fakeMeter) Close() {
	f.host.mu.Lock()
	defer f.host.mu.Unlock()
	f.host.closedMeters = append(f.host.closedMeters, f.path)
}

func (f fakeMeter) Usage() (*cgroup.Usage, error) {
	f.host.mu.Lock()
	defer f.host.mu.Unlock()
	usage, ok := f.host.usage[f.path]
	if !ok && !f.host.cgroups[f.path] {
		return nil, cgroup.ErrGone
	}
	f.host.readings[f.path]++
	out := usage
	out.At = time.Now()
	return &out, nil
}

func (f fakeMeter) Detail() (*cgroup.Detail, error) {
	usage, err := f.Usage()
	if err != nil {
		return nil, err
	}
	return &cgroup.Detail{At: usage.At, MaxTasks: usage.Tasks}, nil
}

func (h fakeHost) openNetNS(string) (*os.File, error) { return os.Open(os.DevNull) }

func (h fakeHost) counters(*os.File) ([]cni.InterfaceCounters, error) {
	return []cni.InterfaceCounters{{Name: "net1", RxBytes: 1}, {Name: "eth0", RxBytes: 2}}, h.at("count")
}

func (h fakeHost) processes(string, int) (*ProcessMetrics, error) {
	return &ProcessMetrics{At: time.Now(), Processes: 2}, h.at("look at processes")
}

func (h fakeHost) pauseBinary() (*os.File, error) { return nil, nil }

func (h fakeHost) bootID() (string, error) { return h.boot, nil }

type fakeKeeper struct{ *daemon }

func (k fakeKeeper) Launch(ctx context.Context, l keeper.Launch) (*keeper.Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := k.at("launch " + kind(l.Key)); err != nil {
		return nil, err
	}
	command := k.command
	if kind(l.Key) == "exec" {
		command = l.Program.Slots
	}
	if kind(l.Key) == "namespaces" {
		command = []string{"true"}
	}
	cmd := exec.Command(command[0], command[1:]...)
	fd := -1
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, PidFD: &fd}
	if len(l.Files) == 3 { // nil stands for /dev/null, here as there
		if l.Files[0] != nil {
			cmd.Stdin = l.Files[0]
		}
		if l.Files[0] != nil && l.Files[0] == l.Files[1] { // a terminal, and the session's
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, PidFD: &fd}
		}
		cmd.Stdout, cmd.Stderr = l.Files[1], l.Files[2]
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &keptFake{pid: cmd.Process.Pid, pidfd: os.NewFile(uintptr(fd), "pidfd"), files: map[string]*os.File{}, ended: make(chan struct{}), oneshot: l.Oneshot}
	for name, f := range l.Hold {
		p.files[name], _ = dup(f)
	}
	for _, s := range l.Streams {
		if err := p.read(s.File); err != nil {
			return nil, err
		}
	}
	k.mu.Lock()
	k.kept[l.Key] = p
	k.groups = append(k.groups, p.pid)
	k.mu.Unlock()
	own, err := dup(p.pidfd)
	if err != nil {
		return nil, err
	}
	go func() { // ends with the process
		_ = cmd.Wait()
		k.reaped(l.Key, p, cmd.ProcessState.Sys().(syscall.WaitStatus))
	}()
	return &keeper.Process{PID: p.pid, PidFD: own}, nil
}

// Adopt is for other runtimes' processes, of which this world has none.
func (k fakeKeeper) Adopt(context.Context, keeper.Launch, *keeper.Process) error {
	return errors.New("nothing to adopt")
}

// read reads what a process writes.
func (p *keptFake) read(stream *os.File) error {
	own, err := dup(stream)
	if err != nil {
		return err
	}
	go func() { // ends with the process's end of the stream
		defer own.Close()
		buf := make([]byte, 4096)
		for {
			n, err := own.Read(buf)
			if err != nil {
				return
			}
			p.mu.Lock()
			p.output.Write(buf[:n])
			for _, t := range p.taps {
				_, _ = t.Write(buf[:n])
			}
			p.mu.Unlock()
		}
	}()
	return nil
}

// written is what a process has written so far.
func (p *keptFake) written() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// reaped tells the daemon that is connected now, if one is.
func (w *world) reaped(key string, p *keptFake, status syscall.WaitStatus) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p.exit = &keeper.Exit{Key: key, Status: status, Known: true, At: time.Now()}
	close(p.ended)
	p.cut()
	if w.connected != nil {
		w.connected.exits <- *p.exit
	}
}

// kind is what a key of the keeper's stands for.
func kind(key string) string {
	for _, k := range []string{"namespaces", "pod", "pause", "exec"} {
		if len(key) > len(k) && key[:len(k)+1] == k+"-" {
			return k
		}
	}
	return "container"
}

// dup leaves the file's mode alone, as Fd does not.
func dup(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	cerr := raw.Control(func(n uintptr) { fd, err = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 3) })
	if err = errors.Join(cerr, err); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

func (k fakeKeeper) Wait(ctx context.Context, key string) (keeper.Exit, error) {
	k.mu.Lock()
	p := k.kept[key]
	k.mu.Unlock()
	select {
	case <-p.ended:
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.kept, key)
		return *p.exit, nil
	case <-ctx.Done():
		return keeper.Exit{}, ctx.Err()
	}
}

func (k fakeKeeper) Exits() <-chan keeper.Exit { return k.exits }

func (k fakeKeeper) Kept() (out []keeper.Kept) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, p := range k.kept {
		one := keeper.Kept{Key: key, PID: p.pid, Exit: p.exit, Files: map[string]*os.File{}}
		if p.pidfd != nil {
			one.PidFD, _ = dup(p.pidfd)
		}
		for name, f := range p.files {
			one.Files[name], _ = dup(f)
		}
		out = append(out, one)
	}
	return out
}

func (k fakeKeeper) Hold(_ context.Context, key string, files map[string]*os.File) error {
	return k.do("hold", func() {
		p := k.kept[key]
		if p == nil {
			p = &keptFake{files: map[string]*os.File{}}
			k.kept[key] = p
		}
		for name, f := range files {
			if old := p.files[name]; old != nil {
				old.Close()
			}
			p.files[name], _ = dup(f)
		}
	})
}

func (k fakeKeeper) Forget(_ context.Context, key string) error {
	return k.do("forget", func() { delete(k.kept, key) })
}

// Attach counts positions from 4096 on, as the journals do.
func (k fakeKeeper) Attach(_ context.Context, key, stream string, position int64, pipe *os.File) (at int64, err error) {
	at = -1
	err = k.do("attach", func() {
		p := k.kept[key]
		if p == nil || p.exit != nil {
			return
		}
		own, derr := dup(pipe)
		if derr != nil {
			return
		}
		at = p.attach(position, own)
	})
	if err == nil && at < 0 {
		err = keeper.ErrUnknownKey
	}
	return at, err
}

func (p *keptFake) attach(position int64, pipe *os.File) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	end := int64(4096 + p.output.Len())
	if position < 4096 || position > end {
		position = end
	}
	_, _ = pipe.Write(p.output.Bytes()[position-4096:])
	p.taps = append(p.taps, pipe)
	return position
}

// cut ends all taps, as the keeper's death does.
func (p *keptFake) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.taps {
		t.Close()
	}
	p.taps = nil
}

func (k fakeKeeper) Reopen(_ context.Context, key string, log *os.File) error {
	return k.do("reopen", func() {
		if p := k.kept[key]; p != nil {
			_, _ = log.WriteString(p.written())
		}
	})
}

// leaks lists what is in the world and belongs to no pod or container that the
// daemon's clients see in a state to have it.
func (d *daemon) leaks() []string {
	ready, running, created, all := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	pods := map[string]bool{}
	for _, p := range d.m.Pods(PodFilter{}) {
		pods[p.ID] = true
		ready[p.ID] = p.State == PodReady
	}
	for _, c := range d.m.Containers(ContainerFilter{}) {
		all[c.ID] = true
		running[c.ID], created[c.ID] = c.State == ContainerRunning, c.State == ContainerCreated
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	leak := func(what, key string, wanted bool) {
		if !wanted {
			out = append(out, what+" "+key)
		}
	}
	for id := range d.addresses {
		leak("address", id, ready[id])
	}
	for path := range d.pins {
		leak("pin", path, ready[filepath.Base(path)[len("berth-"):]])
	}
	for path := range d.cgroups {
		id := filepath.Base(path)
		leak("cgroup", path, running[id] || created[id] || ready[id])
	}
	for id := range d.snapshots {
		owner, _, _ := strings.Cut(id, "-") // of an image volume: viewKey
		leak("snapshot", id, all[owner])
	}
	for key, k := range d.kept {
		switch kind(key) {
		case "pod", "pause":
			leak("kept", key, ready[key[len(kind(key))+1:]])
		case "container":
			leak("kept", key, running[key])
		case "exec":
			leak("kept", key, false)
		case "namespaces":
			leak("kept", key, k.oneshot) // the real keeper forgets it by itself
		}
	}
	entries, _ := os.ReadDir(filepath.Join(d.dir, "pods"))
	for _, e := range entries {
		leak("ledger", e.Name(), pods[e.Name()])
		data, _ := os.ReadFile(filepath.Join(d.dir, "pods", e.Name()))
		lines, _ := lastLines(data)
		for _, l := range lines {
			leak("record", l.word+" "+l.id, l.word == linePod || all[l.id])
		}
	}
	entries, _ = os.ReadDir(filepath.Join(d.dir, "state", "pods"))
	for _, e := range entries {
		leak("directory", e.Name(), pods[e.Name()])
	}
	return out
}

// settled waits until nothing leaks, and fails the test when that doesn't come.
func (d *daemon) settled() {
	d.t.Helper()
	d.eventually("nothing is left over", func() error {
		if l := d.leaks(); len(l) > 0 {
			return fmt.Errorf("left over: %q", l)
		}
		return nil
	})
}

func (d *daemon) eventually(what string, check func() error) {
	d.t.Helper()
	var err error
	for range 500 {
		if err = check(); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	d.t.Fatalf("%s: %v", what, err)
}

// podConfig and containerConfig are valid configurations.
func podConfig(name string) *spec.Pod {
	return &spec.Pod{
		Metadata: spec.PodMetadata{Name: name, UID: "uid-" + name, Namespace: "default"},
		Hostname: name,
		Security: spec.PodSecurity{Namespaces: spec.Namespaces{PID: spec.NamespaceContainer}},
		Labels:   map[string]string{"app": name},
	}
}

func containerConfig(name string) *spec.Container {
	return &spec.Container{
		Metadata: spec.ContainerMetadata{Name: name},
		Image:    spec.ImageRef{Image: fakeImage.ID},
		Command:  []string{"serve"},
		Security: spec.Security{Namespaces: spec.Namespaces{PID: spec.NamespaceContainer}},
	}
}

// runPod, create and begin are steps of most tests.
func (d *daemon) runPod(config *spec.Pod) string {
	d.t.Helper()
	id, err := d.m.RunPod(d.t.Context(), config)
	if err != nil {
		d.t.Fatal(err)
	}
	return id
}

func (d *daemon) create(pod string, config *spec.Container) string {
	d.t.Helper()
	id, err := d.m.CreateContainer(d.t.Context(), pod, config)
	if err != nil {
		d.t.Fatal(err)
	}
	return id
}

func (d *daemon) begin(id string) {
	d.t.Helper()
	if err := d.m.StartContainer(d.t.Context(), id); err != nil {
		d.t.Fatal(err)
	}
}

// awaitState waits for a container's state.
func (d *daemon) awaitState(id string, want ContainerState) *ContainerInfo {
	d.t.Helper()
	var info *ContainerInfo
	d.eventually("container is "+want.String(), func() (err error) {
		if info, err = d.m.Container(id); err == nil && info.State != want {
			err = fmt.Errorf("it is %s (%s)", info.State, info.Message)
		}
		return err
	})
	return info
}
