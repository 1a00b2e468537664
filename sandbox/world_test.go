package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/oci/cgroup"
	"github.com/berth-runtime/berth/sandbox/keeper"
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
	expected     int                              // snapshots, so far
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

// configure changes what is configured, which only Open's sweep reads at any time.
func (d *daemon) configure(change func(*Config)) {
	<-d.m.swept
	change(&d.m.cfg)
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
