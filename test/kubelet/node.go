package kubelet

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

// programVariable names the kubelet to run.
const programVariable = "BERTH_TEST_KUBELET"

// patience bounds everything that is waited for: kubelet looks at some things every minute only.
const patience = 2 * time.Minute

// Node is a daemon and a kubelet that runs pods on it.
type Node struct {
	Daemon *harness.Daemon
	Dir    string // kubelet's own

	t       testing.TB
	port    int
	cgroup  string
	program string
	client  *http.Client
	process *exec.Cmd
	ended   chan struct{} // closed when process has been waited for
}

// Start runs a kubelet on d until the test ends, when it removes all pods and what kubelet left on the machine. Without a
// kubelet the test is skipped.
func Start(t testing.TB, d *harness.Daemon, gates map[string]bool) *Node {
	t.Helper()
	n := &Node{Daemon: d, Dir: d.Dir + "/kubelet", t: t, port: harness.FreePort(t), cgroup: d.CgroupParent + "-kubelet", program: program(t)}
	n.client = &http.Client{Transport: &http.Transport{TLSClientConfig: insecure}, Timeout: patience}
	t.Cleanup(n.client.CloseIdleConnections)
	before, err := remember()
	n.must(err)
	t.Cleanup(func() {
		if err := errors.Join(before.restore(), removeCgroups(n.cgroup)); err != nil {
			t.Errorf("clean up behind kubelet: %v", err)
		}
	})
	n.must(makeCgroups(n.cgroup))
	for _, dir := range []string{"manifests", "logs", "volume-plugins", "root", "pki"} {
		n.must(os.MkdirAll(filepath.Join(n.Dir, dir), 0o755))
	}
	n.must(os.WriteFile(filepath.Join(n.Dir, "config.yaml"), []byte(n.config(gates)), 0o644))
	t.Cleanup(n.finish)
	n.Launch()
	return n
}

// insecure believes kubelet's certificate, which it signed itself.
var insecure = &tls.Config{InsecureSkipVerify: true}

// program finds the kubelet; see doc.go.
func program(t testing.TB) string {
	t.Helper()
	path := os.Getenv(programVariable)
	if path == "" {
		t.Skip("no kubelet: make test-kubelet builds one")
	}
	return path
}

// Launch starts the process, and waits until it is healthy.
func (n *Node) Launch() {
	n.t.Helper()
	log, err := os.OpenFile(n.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	n.must(err)
	defer log.Close()
	n.process = exec.Command(n.program, n.flags()...)
	n.process.Env = append(os.Environ(), "BERTH_TEST_NAME="+n.Daemon.Name)
	n.process.Dir, n.process.Stdout, n.process.Stderr = "/", log, log
	// A group of its own: an interrupted test run interrupts the tests, which stop it.
	n.process.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	n.must(n.process.Start())
	ended := make(chan struct{})
	n.ended = ended
	go func(c *exec.Cmd) { // ends with the process
		_ = c.Wait() // how it ended is the test's to judge
		close(ended)
	}(n.process)
	n.eventually("kubelet to be healthy", func() bool {
		if n.gone() {
			n.t.Fatalf("kubelet ended\n%s", n.logTail())
		}
		text, err := n.get("/healthz")
		return err == nil && text == "ok"
	})
}

func (n *Node) gone() bool {
	select {
	case <-n.ended:
		return true
	default:
		return false
	}
}

// Kill ends kubelet as a crash does. Its pods run on.
func (n *Node) Kill() {
	n.t.Helper()
	n.end(unix.SIGKILL)
}

func (n *Node) end(s unix.Signal) {
	n.t.Helper()
	if n.gone() {
		return
	}
	if err := n.process.Process.Signal(s); err != nil {
		n.t.Errorf("end kubelet: %v", err)
	}
	select {
	case <-n.ended:
	case <-time.After(patience):
		n.t.Errorf("kubelet did not end %v after %v", patience, s)
	}
}

// finish takes all pods from kubelet, and ends it when it has put everything away.
func (n *Node) finish() {
	if n.process == nil {
		return
	}
	manifests, _ := filepath.Glob(filepath.Join(n.Dir, "manifests", "*")) // a good pattern
	for _, path := range manifests {
		if err := os.Remove(path); err != nil {
			n.t.Error(err)
		}
	}
	clean := func() bool {
		pods, err := os.ReadDir(filepath.Join(n.Dir, "root/pods"))
		return errors.Is(err, os.ErrNotExist) || err == nil && len(pods) == 0
	}
	for end := time.Now().Add(patience); !n.gone() && !clean(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			n.t.Errorf("kubelet kept files of pods for %v after they were to end", patience)
			break
		}
	}
	n.end(unix.SIGTERM)
	n.unmount()
	if n.t.Failed() {
		n.keepLog()
	}
}

// unmount takes away what kubelet leaves mounted, its root directory, and volumes, which it must not leave.
func (n *Node) unmount() {
	mounts, err := os.ReadFile("/proc/self/mounts")
	n.must(err)
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], n.Dir+"/") {
			if f[1] != n.Dir+"/root" { // which it binds to itself, to be shared
				n.t.Errorf("kubelet left mounted: %s", f[1])
			}
			_ = unix.Unmount(f[1], unix.MNT_DETACH) // the leak check tells
		}
	}
}

func (n *Node) logFile() string { return filepath.Join(n.Dir, "kubelet.log") }

// keepLog keeps kubelet's log beside the daemon's, and shows its end.
func (n *Node) keepLog() {
	cache, err := images.CacheDir()
	n.must(err)
	text, err := os.ReadFile(n.logFile())
	n.must(err)
	path := filepath.Join(cache, "test-logs", strings.ReplaceAll(n.t.Name(), "/", "-")+".kubelet.log")
	n.must(os.MkdirAll(filepath.Dir(path), 0o755))
	n.must(os.WriteFile(path, text, 0o644))
	n.t.Logf("kubelet's log is %s; it ends:\n%s", path, n.logTail())
}

func (n *Node) logTail() string {
	text, err := os.ReadFile(n.logFile())
	if err != nil {
		return fmt.Sprintf("(no log: %v)", err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}

// get asks kubelet's API, and returns the answer's body.
func (n *Node) get(path string) (string, error) {
	r, err := n.client.Get(fmt.Sprintf("https://127.0.0.1:%d%s", n.port, path))
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("get %s: %s: %s", path, r.Status, body)
	}
	return string(body), err
}

func (n *Node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *Node) eventually(what string, is func() bool) {
	n.t.Helper()
	eventually(n.t, what, is)
}

// eventually waits until what is true.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v still waiting for %s", patience, what)
		}
	}
}
