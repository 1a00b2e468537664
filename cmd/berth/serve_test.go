package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// place is where a daemon under test lives.
type place struct {
	t                        *testing.T
	bin, root, state, config string
}

// newPlace builds the binaries and lays out directories that are the test's own.
func newPlace(t *testing.T) place {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it runs the daemon")
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs go: it builds the daemon")
	}
	dir := t.TempDir()
	p := place{t, filepath.Join(dir, "bin"), filepath.Join(dir, "root"), filepath.Join(dir, "state"), filepath.Join(dir, "config.toml")}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", p.bin+"/", ".", "../berth-keeper")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	text := fmt.Sprintf("[sandbox]\ncgroup_parent = \"/berth-test-serve-%d\"\n[network]\nconf_dir = %q\nbuiltin = false\n", os.Getpid(), dir)
	if err := os.WriteFile(p.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// serving is a daemon that was started.
type serving struct {
	*exec.Cmd
	t     *testing.T
	out   *bytes.Buffer
	since time.Time
	ended chan error
}

func (p place) serve(env []string, flags ...string) *serving {
	p.t.Helper()
	args := append([]string{"serve", "--config", p.config, "--root", p.root, "--state", p.state}, flags...)
	s := &serving{Cmd: exec.Command(filepath.Join(p.bin, "berth"), args...), t: p.t, out: &bytes.Buffer{}, ended: make(chan error, 1)}
	s.Stdout, s.Stderr, s.Env = s.out, s.out, append(os.Environ(), env...)
	// The keeper outlives the daemon, and may have its standard error.
	s.WaitDelay = time.Second
	s.since = time.Now()
	if err := s.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() { s.ended <- s.Wait() }()
	p.t.Cleanup(func() { s.Process.Kill() })
	return s
}

// end waits for the daemon's end and returns what it printed.
func (s *serving) end(signal os.Signal) (string, error) {
	s.t.Helper()
	if signal != nil {
		if err := s.Process.Signal(signal); err != nil {
			s.t.Fatal(err)
		}
	}
	select {
	case err := <-s.ended:
		return s.out.String(), err
	case <-time.After(30 * time.Second):
		s.t.Fatal("the daemon doesn't end")
		return "", nil
	}
}

// version waits for the daemon's first answer, and returns how long it took from
// its start.
func (p place) version(s *serving) time.Duration {
	p.t.Helper()
	socket := filepath.Join(p.state, "berth.sock")
	for {
		if conn, err := net.Dial("unix", socket); err == nil {
			conn.Close()
			break
		}
		if time.Since(s.since) > 30*time.Second || len(s.ended) > 0 {
			out, err := s.end(syscall.SIGKILL)
			p.t.Fatalf("the daemon doesn't serve: %v\n%s", err, out)
		}
		time.Sleep(time.Millisecond)
	}
	conn, err := dial(socket)
	if err != nil {
		p.t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	answer, err := v1.NewRuntimeServiceClient(conn).Version(ctx, &v1.VersionRequest{}, grpc.WaitForReady(true))
	if err != nil || answer.RuntimeVersion != version {
		out, _ := s.end(syscall.SIGKILL)
		p.t.Fatalf("version: %v, %v\n%s", answer, err, out)
	}
	return time.Since(s.since)
}

// keepers counts the keepers of the place's state directory.
func (p place) keepers() int {
	p.t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		p.t.Fatal(err)
	}
	n := 0
	for _, line := range lines {
		text, _ := os.ReadFile(line) // a process may end meanwhile
		if strings.Contains(string(text), "berth-keeper") && strings.Contains(string(text), p.state) {
			n++
		}
	}
	return n
}

func TestRootServe(t *testing.T) {
	p := newPlace(t)
	notices, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notices.Close()
	first := p.serve([]string{"NOTIFY_SOCKET=" + notices.LocalAddr().String()})
	t.Logf("start to the first Version: %v", p.version(first))
	wantNotice(t, notices, "READY=1")

	pid := fmt.Sprintf("served by a live daemon (pid %d)", first.Process.Pid)
	for name, c := range map[string]struct {
		flags []string
		want  string
	}{
		"same directories": {nil, pid},
		"same root":        {[]string{"--state", t.TempDir()}, pid},
		"same state":       {[]string{"--root", t.TempDir()}, pid},
		"same socket": {[]string{"--root", t.TempDir(), "--state", t.TempDir(), "--socket", filepath.Join(p.state, "berth.sock")},
			"berth.sock is served by a live daemon"},
	} {
		if out, err := p.serve(nil, c.flags...).end(nil); err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v, %q, want %q", name, err, out, c.want)
		}
	}
	p.version(first) // still there

	if out, err := first.end(syscall.SIGTERM); err != nil {
		t.Errorf("end: %v\n%s", err, out)
	}
	wantNotice(t, notices, "STOPPING=1")
	if _, err := os.Lstat(filepath.Join(p.state, "berth.sock")); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
	if n := p.keepers(); n != 0 {
		t.Errorf("%d keepers are left, and keep nothing", n)
	}
}

func wantNotice(t *testing.T, notices *net.UnixConn, want string) {
	t.Helper()
	buf := make([]byte, 256)
	if err := notices.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := notices.Read(buf)
	if err != nil || string(buf[:n]) != want {
		t.Errorf("systemd is told %q, %v, want %q", buf[:n], err, want)
	}
}

// A daemon that was killed leaves its socket and its keeper; the next one takes
// both over.
func TestRootServeAfterKill(t *testing.T) {
	p := newPlace(t)
	first := p.serve(nil)
	p.version(first)
	if _, err := first.end(syscall.SIGKILL); err == nil {
		t.Fatal("the test's premise: it was killed")
	}
	if _, err := os.Lstat(filepath.Join(p.state, "berth.sock")); err != nil {
		t.Fatalf("the test's premise: the socket is left: %v", err)
	}
	second := p.serve(nil)
	t.Logf("start to the first Version, over a running keeper: %v", p.version(second))
	if n := p.keepers(); n != 1 {
		t.Errorf("%d keepers, want the first's", n)
	}
	if out, err := second.end(syscall.SIGINT); err != nil {
		t.Errorf("end: %v\n%s", err, out)
	}
	if n := p.keepers(); n != 0 {
		t.Errorf("%d keepers are left", n)
	}
}

func TestRootServeStatus(t *testing.T) {
	p := newPlace(t)
	daemon := p.serve(nil)
	p.version(daemon)
	conn, err := dial(filepath.Join(p.state, "berth.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got, err := v1.NewRuntimeServiceClient(conn).Status(t.Context(), &v1.StatusRequest{Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	// Neither a configuration nor the built-in network: no pod can be attached.
	if network := got.Status.Conditions[1]; network.Status || network.Message == "" {
		t.Errorf("network: %v", network)
	}
	if !strings.Contains(got.Info["config"], p.root) || !strings.Contains(got.Info["keeper"], "pid") {
		t.Errorf("info %v", got.Info)
	}
	if out, err := daemon.end(syscall.SIGTERM); err != nil {
		t.Errorf("end: %v\n%s", err, out)
	}
}

// A start that fails says why, and leaves neither socket nor locks.
func TestRootServeFails(t *testing.T) {
	p := newPlace(t)
	config, err := os.ReadFile(p.config)
	if err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]struct {
		config string
		flags  []string
	}{
		"berth-keeper":       {"", []string{"--keeper", "/nonexistent/berth-keeper"}},
		"cadvisor.socket":    {fmt.Sprintf("[cadvisor]\nsocket = %q\n", p.root), nil},
		"listen for streams": {"[streaming]\naddress = \"192.0.2.1:0\"\n", nil}, // nobody's: RFC 5737
	} {
		if err := os.WriteFile(p.config, append(slices.Clone(config), c.config...), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := p.serve(nil, c.flags...).end(nil); err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v, %q", want, err, out)
		}
	}
	if n := p.keepers(); n != 0 {
		t.Errorf("%d keepers are left", n)
	}
	if _, err := os.Lstat(filepath.Join(p.state, "berth.sock")); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
	release, err := takeLocks(p.root, p.state)
	if err != nil {
		t.Fatal(err)
	}
	release()
}
