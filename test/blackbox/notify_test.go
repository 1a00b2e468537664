package blackbox

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
)

// listener answers for the calls that a seccomp profile refers: as a node's agent
// would, over a socket and the descriptors that come through it.
type listener struct {
	t      *testing.T
	path   string
	socket *net.UnixListener
	wg     sync.WaitGroup

	mu       sync.Mutex
	states   []processState
	answered int
}

// processState is OCI's container process state.
type processState struct {
	OCIVersion string   `json:"ociVersion"`
	Fds        []string `json:"fds"`
	Pid        int      `json:"pid"`
	Metadata   string   `json:"metadata"`
	State      told     `json:"state"`
}

// listen answers each call with an errno. It comes before the daemon: it ends when the
// containers have.
func listen(t *testing.T, errno unix.Errno) *listener {
	t.Helper()
	harness.NeedRoot(t)
	l := &listener{t: t, path: filepath.Join(t.TempDir(), "listener.sock")}
	var err error
	l.socket, err = net.ListenUnix("unix", &net.UnixAddr{Name: l.path, Net: "unix"})
	check(t, err)
	t.Cleanup(func() {
		l.socket.Close()
		l.wg.Wait()
	})
	l.wg.Go(func() { // ends with the socket
		for {
			conn, err := l.socket.AcceptUnix()
			if err != nil {
				return
			}
			l.wg.Go(func() { l.serve(conn, errno) }) // ends with the filter's last process
		}
	})
	return l
}

func (l *listener) serve(conn *net.UnixConn, errno unix.Errno) {
	defer conn.Close()
	text, control := make([]byte, 1<<16), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := conn.ReadMsgUnix(text, control)
	if err != nil {
		return // a start that failed after it connected
	}
	var state processState
	messages, err1 := unix.ParseSocketControlMessage(control[:oobn])
	err2 := json.Unmarshal(text[:n], &state)
	if err := errors.Join(err1, err2); err != nil || len(messages) != 1 {
		l.t.Errorf("message %q with %d descriptors: %v", text[:n], len(messages), err)
		return
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		l.t.Errorf("descriptors %v, %v", fds, err)
		return
	}
	l.mu.Lock()
	l.states = append(l.states, state)
	l.mu.Unlock()
	l.answer(fds[0], errno)
}

// The structs of seccomp_unotify(2).
type (
	notification struct {
		id         uint64
		pid, flags uint32
		data       [64]byte
	}
	response struct {
		id    uint64
		val   int64
		error int32
		flags uint32
	}
)

func (l *listener) answer(fd int, errno unix.Errno) {
	defer unix.Close(fd)
	for {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); errors.Is(err, unix.EINTR) {
			continue
		}
		if poll[0].Revents&unix.POLLIN == 0 {
			return // POLLHUP: nobody has the filter any more
		}
		var n notification
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); e != 0 {
			continue // killed meanwhile
		}
		r := response{id: n.id, error: -int32(errno)}
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&r))); e == 0 {
			l.mu.Lock()
			l.answered++
			l.mu.Unlock()
		}
	}
}

func (l *listener) state(i int) processState {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i >= len(l.states) {
		return processState{}
	}
	return l.states[i]
}

// notifying is a profile that refers the making of directories to a listener.
func notifying(t *testing.T, path string) *cri.SecurityProfile {
	return localhost(t, `{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "`+path+`", "listenerMetadata": "about it",
		"syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]}`)
}

// TestRootSeccompNotify: a listener gets the descriptor of the first process's filter
// and of each exec's, with their states, and its answers count.
func TestRootSeccompNotify(t *testing.T) {
	l := listen(t, unix.EDQUOT)
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("notify")))
	for i, noNewPrivs := range []bool{false, true} {
		config := harness.ContainerConfig(map[bool]string{false: "plain", true: "nnp"}[noNewPrivs], "mkdir /tmp/d 2>&1; "+harness.Sleep)
		config.Linux.SecurityContext.Seccomp = notifying(t, l.path)
		config.Linux.SecurityContext.NoNewPrivs = noNewPrivs
		c := pod.Run(config)
		const says = "mkdir: can't create directory '/tmp/d': Disc quota exceeded"
		d.Eventually("the container's line", func() bool { return len(c.Log()) == 1 })
		want(t, "what mkdir says", strings.ToLower(c.Output("stdout")), strings.ToLower(quota(says))+"\n")
		s := l.state(2 * i)
		if len(s.Fds) != 1 || s.Fds[0] != "seccompFd" || s.Metadata != "about it" || s.State.ID != c.ID || s.State.Status != "creating" || s.Pid == 0 || s.Pid != s.State.Pid || s.OCIVersion == "" {
			t.Errorf("state of the first process: %+v", s)
		}
		if own, err := os.ReadFile("/proc/" + itoa(s.Pid) + "/cgroup"); err != nil || !strings.Contains(string(own), c.ID) {
			t.Errorf("process %d is not the container's: %v", s.Pid, err)
		}
		want(t, "what mkdir says in an exec", strings.ToLower(c.Exec("mkdir /tmp/d 2>&1 || true")), strings.ToLower(quota(says)))
		e := l.state(2*i + 1)
		if e.State.ID != c.ID || e.State.Status != "running" || e.State.Pid != s.Pid || e.Pid == s.Pid || e.Pid == 0 {
			t.Errorf("state of an exec: %+v", e)
		}
		c.Stop(5)
	}
}

// quota is a message with the libc's own word for EDQUOT.
func quota(says string) string {
	return strings.Replace(says, "Disc quota exceeded", unix.EDQUOT.Error(), 1)
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

// TestRootSeccompNotifyWithoutListener: nobody there is an error of the start, and of an exec.
func TestRootSeccompNotifyWithoutListener(t *testing.T) {
	l := listen(t, unix.EDQUOT)
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("alone")))
	config := harness.ContainerConfig("c", "true")
	config.Linux.SecurityContext.Seccomp = notifying(t, "/no/such/listener.sock")
	c := pod.Create(config)
	_, err := d.Runtime.StartContainer(d.Context(), &cri.StartContainerRequest{ContainerId: c.ID})
	if err == nil || !strings.Contains(err.Error(), "seccomp listener") || !strings.Contains(err.Error(), "/no/such/listener.sock") {
		t.Errorf("start: %v", err)
	}
	want(t, "reason", c.Status().Reason, "StartError")
	config = harness.ContainerConfig("left", harness.Sleep)
	config.Linux.SecurityContext.Seccomp = notifying(t, l.path)
	c = pod.Run(config)
	l.socket.Close()
	if _, err := c.TryExec(10, "true"); err == nil || !strings.Contains(err.Error(), "seccomp listener") {
		t.Errorf("exec: %v", err)
	}
	want(t, "state", c.Status().State, cri.ContainerState_CONTAINER_RUNNING)
}
