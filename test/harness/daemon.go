package harness

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/leak"
	"github.com/berth-runtime/berth/test/registry"
)

// patience bounds everything that a test waits for: far more than it takes.
const patience = 60 * time.Second

// settleTime is what the kernel may take to dismantle network namespaces.
const settleTime = 15 * time.Second

// TB is what the harness needs of a test or a benchmark; *testing.T has it.
type TB interface {
	Helper()
	Name() string
	Context() context.Context
	Cleanup(func())
	Failed() bool
	Logf(format string, args ...any)
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Skip(args ...any)
}

// Options of a daemon. The zero value is a daemon without images.
type Options struct {
	Registry *registry.Server // where it pulls from
	Pull     []string         // references that it has pulled before Start returns
	Config   string           // TOML beyond what the harness writes
	Flags    []string         // of berth serve
	NetNS    string           // path of the network namespace that it runs in; "": the test's
	Beside   *Daemon          // an earlier one of the same test: its leak check, the last one, is for all that bears no name
}

// Daemon is a running berth. Its methods end the test when they don't succeed,
// unless they return an error.
type Daemon struct {
	Name         string // unique on the machine; in the name of everything that it has
	Dir          string // holds all of its directories
	Root, State  string
	Socket       string
	CgroupParent string // of its pods
	Bridge       string
	Subnet       string
	LogFile      string

	Runtime cri.RuntimeServiceClient
	Images  cri.ImageServiceClient

	t       TB
	bin     string
	flags   []string
	netns   string
	process *exec.Cmd
	ended   chan struct{} // closed when process has been waited for
	conn    *grpc.ClientConn
	before  *leak.Snapshot
	beside  *Daemon
	settle  time.Duration // of the leak check

	mu  sync.Mutex
	ids map[string]bool // of pods and containers that it made
}

// Start runs a daemon until the test ends. It skips the test without root.
func Start(t TB, o Options) *Daemon {
	t.Helper()
	NeedRoot(t)
	before, err := leak.Take()
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{t: t, before: before, beside: o.Beside, settle: settleTime, netns: o.NetNS, Name: "bt" + strings.ToLower(rand.Text()[:8]), ids: map[string]bool{}}
	d.bin = Bin(t)
	d.Dir = filepath.Join(os.TempDir(), "berth-test-"+d.Name)
	d.Root, d.State = filepath.Join(d.Dir, "root"), d.Dir+"/state"
	if tmpfs("/dev/shm") { // as /run is on a node, but not on every machine that tests
		d.State = filepath.Join("/dev/shm", "berth-test-"+d.Name)
	}
	d.Socket, d.LogFile = filepath.Join(d.State, "berth.sock"), filepath.Join(d.Dir, "berth.log")
	d.CgroupParent, d.Bridge = "/berth-test-"+d.Name, d.Name
	if bySystemd() {
		d.CgroupParent = "/" + d.Name + ".slice"
		o.Config = d.withDriver(o.Config)
	}
	d.layOut(o)
	t.Cleanup(d.finish)
	d.launch()
	d.connect()
	for _, ref := range o.Pull {
		d.Pull(ref)
	}
	return d
}

// tmpfs says whether a directory is on one.
func tmpfs(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.TMPFS_MAGIC
}

// NeedRoot skips a test that is not run as root.
func NeedRoot(t TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it runs containers")
	}
}

// layOut makes the daemon's directories and its configuration.
func (d *Daemon) layOut(o Options) {
	d.t.Helper()
	certs, conf, plugins := filepath.Join(d.Dir, "certs.d"), filepath.Join(d.Dir, "net.d"), filepath.Join(d.Dir, "cni-bin")
	for _, dir := range []string{certs, conf, plugins, d.LogDirectory()} {
		d.must(os.MkdirAll(dir, 0o755))
	}
	if o.Registry != nil {
		d.must(o.Registry.WriteCerts(certs))
	}
	v4, v6 := freeSubnets(d.t)
	d.Subnet = v4
	config := filepath.Join(d.Dir, "config.toml")
	text := fmt.Sprintf("[network]\nbuiltin_bridge = %q\nbuiltin_subnets = [%q, %q]\n\n%s", d.Bridge, v4, v6, o.Config)
	d.must(os.WriteFile(config, []byte(text), 0o644))
	crictl := fmt.Sprintf("runtime-endpoint: unix://%s\nimage-endpoint: unix://%[1]s\ntimeout: 60\n", d.Socket)
	d.must(os.WriteFile(filepath.Join(d.Dir, "crictl.yaml"), []byte(crictl), 0o644))
	d.flags = append([]string{
		"serve", "--config", config, "--root", d.Root, "--state", d.State, "--socket", d.Socket, "--log-level", "debug",
		"--registry-config-dir", certs, "--cni-conf-dir", conf, "--cni-bin-dir", plugins,
	}, o.Flags...)
}

// LogDirectory is below which PodConfig has the pods' logs.
func (d *Daemon) LogDirectory() string { return filepath.Join(d.Dir, "logs") }

// PID is the daemon's process.
func (d *Daemon) PID() int { return d.process.Process.Pid }

// Command returns berth with the flags that lead to this daemon, not yet started.
func (d *Daemon) Command(args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(d.bin, "berth"), args...)
	c.Env = append(os.Environ(), "BERTH_TEST_NAME="+d.Name)
	c.Dir = "/"
	return c
}

// launch starts the process. Its log goes on where that of an earlier one ended.
func (d *Daemon) launch() {
	d.t.Helper()
	log, err := os.OpenFile(d.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	d.must(err)
	defer log.Close()
	d.process = d.Command(d.flags...)
	d.process.Stdout, d.process.Stderr = log, log
	// A group of its own: an interrupted test run interrupts the tests, which stop it.
	d.process.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	d.must(inNetNS(d.netns, d.process.Start))
	ended := make(chan struct{})
	d.ended = ended
	go func(c *exec.Cmd) { // ends with the process
		_ = c.Wait() // how it ended is the test's to judge
		close(ended)
	}(d.process)
}

// inNetNS calls start in a network namespace, which the processes that it starts are in.
func inNetNS(path string, start func() error) error {
	if path == "" {
		return start()
	}
	runtime.LockOSThread() // its thread goes back: it may be the process's first, which others look at
	defer runtime.UnlockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	there, err := os.Open(path)
	if err != nil {
		return err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	return errors.Join(start(), unix.Setns(int(home.Fd()), unix.CLONE_NEWNET))
}

// Ended says whether the daemon's process has ended, without waiting for it.
func (d *Daemon) Ended() bool {
	select {
	case <-d.ended:
		return true
	default:
		return false
	}
}

// Stop ends the daemon gracefully; its containers run on.
func (d *Daemon) Stop() {
	d.t.Helper()
	d.signal(unix.SIGTERM)
}

// Kill ends the daemon as a crash does.
func (d *Daemon) Kill() {
	d.t.Helper()
	d.signal(unix.SIGKILL)
}

func (d *Daemon) signal(s unix.Signal) {
	d.t.Helper()
	d.must(d.process.Process.Signal(s))
	select {
	case <-d.ended:
	case <-time.After(patience):
		d.t.Fatalf("daemon did not end %v after %v", patience, s)
	}
}

// Restart starts the daemon again, after Stop or Kill, and waits until it answers.
func (d *Daemon) Restart() {
	d.t.Helper()
	d.launch()
	d.Ready()
}

// Ready waits until the daemon answers.
func (d *Daemon) Ready() {
	d.t.Helper()
	if err := d.answers(); err != nil {
		d.t.Fatalf("%v\n%s", err, d.logTail())
	}
}

func (d *Daemon) answers() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		_, err := d.Runtime.Version(ctx, &cri.VersionRequest{})
		switch {
		case err == nil:
			return nil
		case d.Ended():
			return fmt.Errorf("daemon ended before it answered: %w", err)
		case ctx.Err() != nil:
			return fmt.Errorf("daemon did not answer within %v: %w", patience, err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (d *Daemon) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}
