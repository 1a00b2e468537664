package blackbox

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

// screen is a crictl that runs on a terminal of the test's.
type screen struct {
	t      *testing.T
	d      *harness.Daemon
	master *os.File
	cmd    *exec.Cmd
	ended  chan struct{}

	mu   sync.Mutex
	text bytes.Buffer
}

// sit runs crictl with a terminal of 100 columns and 30 rows.
func sit(t *testing.T, d *harness.Daemon, args ...string) *screen {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	check(t, err)
	t.Cleanup(func() { master.Close() })
	s := &screen{t: t, d: d, master: master, cmd: d.CrictlCommand(args...), ended: make(chan struct{})}
	var slave *os.File
	raw, err := master.SyscallConn()
	check(t, err)
	check(t, raw.Control(func(fd uintptr) {
		check(t, unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0))
		n, err := unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		check(t, err)
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
		check(t, err)
	}))
	s.resize(100, 30)
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = slave, slave, slave
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	check(t, s.cmd.Start())
	slave.Close()
	go func() { // ends when crictl has closed the terminal
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			s.mu.Lock()
			s.text.Write(buf[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	go func() { // ends with crictl
		_ = s.cmd.Wait()
		close(s.ended)
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		<-s.ended
	})
	return s
}

func (s *screen) resize(width, height uint16) {
	raw, err := s.master.SyscallConn()
	check(s.t, err)
	check(s.t, raw.Control(func(fd uintptr) {
		check(s.t, unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height}))
	}))
}

func (s *screen) types(text string) {
	s.t.Helper()
	_, err := s.master.WriteString(text)
	check(s.t, err)
}

// shows waits until something that matches stands on the screen.
func (s *screen) shows(pattern string) {
	s.t.Helper()
	re := regexp.MustCompile(pattern)
	for end := time.Now().Add(time.Minute); !re.MatchString(s.shown()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("%q is not on the screen:\n%s", pattern, s.shown())
		}
	}
}

// isOf waits until a shell's commands see a terminal of that size, as "30x100": crictl tells it while it passes on what is typed already.
func (s *screen) isOf(size string) {
	s.t.Helper()
	s.d.Eventually("a terminal of "+size, func() bool {
		s.types("stty size | tr ' ' x\n")
		time.Sleep(100 * time.Millisecond)
		return strings.Contains(s.shown(), size)
	})
}

func (s *screen) shown() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// exits waits for crictl's end and returns its exit code.
func (s *screen) exits() int {
	s.t.Helper()
	select {
	case <-s.ended:
	case <-time.After(30 * time.Second):
		s.t.Fatalf("crictl does not end:\n%s", s.shown())
	}
	return s.cmd.ProcessState.ExitCode()
}

func TestRootExecOnTerminal(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("exec")))
	c := pod.Run(harness.ContainerConfig("main", harness.Sleep))
	s := sit(t, d, "exec", "-it", c.ID, "sh")
	s.shows(`[#$] `)
	s.isOf("30x100")
	s.types("tty; echo TERM=$TERM\n")
	s.shows(`/dev/pts/0\r\nTERM=xterm`)
	s.resize(120, 40)
	s.isOf("40x120")
	s.types("sleep 100\n")
	time.Sleep(300 * time.Millisecond)
	s.types("\x03") // Ctrl-C reaches the command, not crictl
	s.types("echo still $((1+1)) here\n")
	s.shows(`still 2 here`)
	s.types("exit 7\n")
	if code := s.exits(); code == 0 {
		t.Errorf("crictl ended with %d:\n%s", code, s.shown())
	}
	s.shows(`(exit code|code:) 7`) // which may be on its way from the terminal when crictl has ended
	// A client that is killed hangs up.
	s = sit(t, d, "exec", "-it", c.ID, "sh", "-c", "echo ready; exec sleep 471")
	s.shows("ready")
	check(t, s.cmd.Process.Kill())
	d.Eventually("the terminal's process to be gone", func() bool { return !strings.Contains(c.Exec("ps"), "sleep 471") })
}

// streamed runs crictl with an input and returns what came of it.
func streamed(d *harness.Daemon, input string, args ...string) (stdout, stderr string, err error) {
	var out, errout bytes.Buffer
	cmd := d.CrictlCommand(args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errout
	err = cmd.Run()
	return out.String(), errout.String(), err
}

func TestRootExecStreams(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("exec")))
	c := pod.Run(harness.ContainerConfig("main", harness.Sleep))
	for _, transport := range []string{"spdy", "websocket"} {
		input := strings.Repeat("0123456789abcde\n", 200_000) // 3 MB
		out, errout, err := streamed(d, input, "exec", "--transport", transport, "-i", c.ID, "sh", "-c", "cat; echo err >&2")
		if err != nil || out != input || !strings.Contains(errout, "err\n") {
			t.Errorf("%s: %d bytes came back of %d, stderr %q, %v", transport, len(out), len(input), errout, err)
		}
		_, errout, err = streamed(d, "", "exec", "--transport", transport, c.ID, "sh", "-c", "exit 9")
		if err == nil || !strings.Contains(errout, "9") {
			t.Errorf("%s: exit code 9 shows as %q, %v", transport, errout, err)
		}
		_, errout, err = streamed(d, "", "exec", "--transport", transport, c.ID, "/no/such/program")
		if err == nil || !strings.Contains(errout, "/no/such/program") {
			t.Errorf("%s: no such program shows as %q, %v", transport, errout, err)
		}
	}
	want(t, "processes of execs that are left", c.Exec("ps | grep -c '[c]at;'; true"), "0")
}

func TestRootStreamRequests(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("requests")))
	c := pod.Run(harness.ContainerConfig("main", harness.Sleep))
	created := pod.Create(harness.ContainerConfig("created", "true"))
	for name, bad := range map[string]struct {
		req  *cri.ExecRequest
		code codes.Code
	}{
		"no container":  {&cri.ExecRequest{Cmd: []string{"true"}, Stdout: true}, codes.InvalidArgument},
		"no streams":    {&cri.ExecRequest{ContainerId: c.ID, Cmd: []string{"true"}}, codes.InvalidArgument},
		"no command":    {&cri.ExecRequest{ContainerId: c.ID, Stdout: true}, codes.InvalidArgument},
		"tty + stderr":  {&cri.ExecRequest{ContainerId: c.ID, Cmd: []string{"true"}, Tty: true, Stderr: true}, codes.InvalidArgument},
		"unknown":       {&cri.ExecRequest{ContainerId: strings.Repeat("0", 64), Cmd: []string{"true"}, Stdout: true}, codes.NotFound},
		"never started": {&cri.ExecRequest{ContainerId: created.ID, Cmd: []string{"true"}, Stdout: true}, codes.FailedPrecondition},
	} {
		if _, err := d.Runtime.Exec(d.Context(), bad.req); err == nil {
			t.Errorf("%s: no error", name)
		} else {
			wantError(t, err, bad.code)
		}
	}
	_, err := d.Runtime.PortForward(d.Context(), &cri.PortForwardRequest{PodSandboxId: strings.Repeat("0", 64)})
	wantError(t, err, codes.NotFound)
	_, err = d.Runtime.PortForward(d.Context(), &cri.PortForwardRequest{PodSandboxId: pod.ID, Port: []int32{70000}})
	wantError(t, err, codes.InvalidArgument, "70000")
}

func TestRootExecWhileTerminating(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("ending")))
	c := pod.Run(harness.ContainerConfig("main", `trap 'while [ ! -e /go ]; do sleep 0.05; done; exit 0' TERM; echo ready; while :; do sleep 0.05; done`))
	d.Eventually("the container to be ready", func() bool { return strings.Contains(c.Output("stdout"), "ready") })
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		c.Stop(60)
	}()
	time.Sleep(300 * time.Millisecond)
	out, errout, err := streamed(d, "", "exec", c.ID, "sh", "-c", "touch /go; echo done")
	if err != nil || out != "done\n" {
		t.Errorf("exec while the container is being stopped: %q, %q, %v", out, errout, err)
	}
	select {
	case <-stopped:
	case <-time.After(30 * time.Second):
		t.Fatal("the stop does not end")
	}
	want(t, "exit code", c.Status().ExitCode, 0)
}

func TestRootPortForward(t *testing.T) {
	d := start(t, images.Busybox)
	web := `mkdir /www; echo "hello from $1" >/www/index.html; exec httpd -f -p $2 -h /www`
	for _, c := range []struct {
		name, listen string
		port         int
		host         bool
	}{{"v4", "0.0.0.0:8080", 8080, false}, {"loopback-v6", "[::1]:8081", 8081, false}, {"host", "127.0.0.1:48123", 48123, true}} {
		config := d.PodConfig(c.name)
		if c.host {
			harness.OnHostNetwork(config)
		}
		pod := d.RunPod(config)
		main := harness.ContainerConfig("web", "")
		main.Command = []string{"sh", "-c", web, "sh", c.name, c.listen}
		run := pod.Run(main)
		d.Eventually("the server to listen", func() bool { return strings.Contains(run.Exec("netstat -ltn"), fmt.Sprint(c.port)) })
		local := forward(t, d, pod.ID, c.port)
		for range 3 {
			d.Eventually("an answer through the forwarded port of "+c.name, func() bool {
				return strings.Contains(get(local), "hello from "+c.name)
			})
		}
		if !strings.Contains(get(forward(t, d, pod.ID, c.port, "--transport", "websocket")), "hello from "+c.name) {
			t.Errorf("no answer through a WebSocket from %s", c.name)
		}
		if c.name != "v4" {
			continue
		}
		// A port where nobody listens fails alone.
		other := forward(t, d, pod.ID, 9)
		want(t, "an answer of a closed port", get(other), "")
		if !strings.Contains(get(local), "hello") {
			t.Error("the first port is not forwarded any more")
		}
	}
}

// forward has crictl forward a port, and returns the address on the host.
func forward(t *testing.T, d *harness.Daemon, pod string, port int, flags ...string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	local := l.Addr().String()
	l.Close()
	_, own, _ := net.SplitHostPort(local)
	cmd := d.CrictlCommand(append(append([]string{"port-forward"}, flags...), pod, fmt.Sprintf("%s:%d", own, port))...)
	check(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	d.Listening(local)
	return local
}

// get fetches the root page; "" on any error.
func get(address string) string {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return ""
	}
	all, _ := io.ReadAll(conn)
	return string(all)
}
