package oci

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berth-runtime/berth/oci/mount"
	"github.com/berth-runtime/berth/oci/program"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// attended launches a container with a bundle and an attendant, and returns how the launch and the attendance
// ended, and what the container wrote.
func attended(t *testing.T, n *Node, s *specs.Spec, a Attendant) (out string, met, launched error) {
	t.Helper()
	bundle := t.TempDir()
	if err := os.Mkdir(filepath.Join(bundle, "rootfs"), 0o755); err != nil {
		t.Fatal(err)
	}
	root, _, err := mount.Bind(rootDir(t), program.MountOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	outR, outW := pipe(t)
	l, err := n.PrepareContainer(Container{Spec: s, Root: root, Stdout: outW, Stderr: outW, RootAt: filepath.Join(bundle, "rootfs")})
	if err != nil {
		t.Fatal(err)
	}
	c := begin(t, l)
	defer unix.Close(c.PidFD)
	gate, err := l.Gate()
	if err != nil || gate == nil {
		t.Fatalf("gate %v, %v", gate, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- gate.Attend(t.Context(), a) }()
	_, launched = c.Wait()
	met = <-done
	outW.Close()
	text, _ := io.ReadAll(outR)
	if _, err := unix.Wait4(c.PID, nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	return string(text), met, l.Explain(launched)
}

func hooked() *specs.Spec {
	s := testSpec()
	s.Process.Args = []string{"probe", "0"}
	one := []specs.Hook{{Path: "/bin/true"}}
	s.Hooks = &specs.Hooks{CreateContainer: one, StartContainer: one}
	return s
}

// TestRootGates: at the first gate the process sees the host's files, and its root where the hooks look for
// it, with all mounts; at the second its root is the container's.
func TestRootGates(t *testing.T) {
	needRoot(t)
	n := testNode(t)
	var seen []string
	a := Attendant{Hooks: func(_ context.Context, gate string, pid int) error {
		proc := "/proc/" + strconv.Itoa(pid)
		mounts, err := os.ReadFile(proc + "/mountinfo")
		if err != nil {
			return err
		}
		inner := 0
		for line := range strings.Lines(string(mounts)) {
			if at := strings.Fields(line)[4]; strings.HasSuffix(at, "/rootfs/proc") || strings.HasSuffix(at, "/rootfs/dev/pts") {
				inner++
			}
		}
		_, err = os.Stat(proc + "/root/proc/sys/kernel/ostype")
		_, hosts := os.Stat(proc + "/root/bin/probe")
		seen = append(seen, gate, strconv.Itoa(inner), strconv.FormatBool(err == nil), strconv.FormatBool(hosts == nil))
		return nil
	}}
	out, met, launched := attended(t, n, hooked(), a)
	if launched != nil || met != nil || !strings.HasPrefix(out, "{") {
		t.Fatalf("launch: %v, attendant: %v, output %q", launched, met, out)
	}
	if want := []string{"create", "2", "true", "false", "start", "0", "true", "true"}; !slices.Equal(seen, want) {
		t.Errorf("seen %q, want %q", seen, want)
	}
}

// TestRootGateRefuses: an attendant's error, or its end, is the launch's.
func TestRootGateRefuses(t *testing.T) {
	needRoot(t)
	n := testNode(t)
	no := errors.New("no")
	for _, at := range []string{program.GateCreate, program.GateStart} {
		out, met, launched := attended(t, n, hooked(), Attendant{Hooks: func(_ context.Context, gate string, _ int) error {
			if gate == at {
				return no
			}
			return nil
		}})
		if !errors.Is(met, no) || !errors.Is(launched, unix.ECANCELED) || !strings.Contains(launched.Error(), "wait for the hooks of "+at) || out != "" {
			t.Errorf("%s: launch: %v, attendant: %v, output %q", at, launched, met, out)
		}
	}
}

// TestRootInsideHooks: a createContainer hook is a program of the host's in the container's namespaces, what it
// writes to the root is in the container; a startContainer hook is one of the image's, with the user's rights.
func TestRootInsideHooks(t *testing.T) {
	needRoot(t)
	n := testNode(t)
	s := hooked()
	s.Process.User = specs.User{UID: 77, GID: 78}
	s.Process.Capabilities = &specs.LinuxCapabilities{}
	var said []string
	var bundle string
	a := Attendant{Hooks: func(_ context.Context, gate string, pid int) error {
		kind, h := CreateContainer, specs.Hook{Path: "/bin/sh", Args: []string{"name", "-c", "echo $0 $FROM; id -u; hostname; ls; echo made > rootfs/made; cat"}, Env: []string{"FROM=hook", "PATH=/usr/bin:/bin"}}
		if gate == program.GateStart {
			kind, h = StartContainer, specs.Hook{Path: "/bin/probe", Args: []string{"hook", "0"}}
		}
		e := InsideHook(kind, h, s, bundle)
		out, err := runInside(t, n, e, pid)
		said = append(said, out)
		return err
	}}
	// The bundle is known before the launch only to attended: find it by the mount.
	find := a.Hooks
	a.Hooks = func(ctx context.Context, gate string, pid int) error {
		mounts, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/mountinfo")
		for line := range strings.Lines(string(mounts)) {
			if at := strings.Fields(line)[4]; strings.HasSuffix(at, "/rootfs") {
				bundle = filepath.Dir(at)
			}
		}
		return find(ctx, gate, pid)
	}
	out, met, launched := attended(t, n, s, a)
	if launched != nil || met != nil {
		t.Fatalf("launch: %v, attendant: %v", launched, met)
	}
	if want := "name hook\n0\ninside\nrootfs\nstate"; said[0] != want {
		t.Errorf("createContainer says %q, want %q", said[0], want)
	}
	if !strings.Contains(said[1], `"Args":["hook","0"]`) || !strings.Contains(said[1], `"UID":77`) || !strings.Contains(said[1], `"CapEff":"0000000000000000"`) {
		t.Errorf("startContainer says %q", said[1])
	}
	if !strings.Contains(out, `"UID":77`) {
		t.Errorf("the container says %q", out)
	}
}

// runInside runs a hook beside a process with "state" on its standard input, and returns what it wrote.
func runInside(t *testing.T, n *Node, e Exec, pid int) (string, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return "", err
	}
	e.PidFD = os.NewFile(uintptr(fd), "process")
	defer e.PidFD.Close()
	in, inW := pipe(t)
	if _, err := inW.WriteString("state"); err != nil {
		return "", err
	}
	inW.Close()
	outR, outW := pipe(t)
	e.Stdin, e.Stdout, e.Stderr = in, outW, outW
	l, err := n.PrepareExec(e)
	if err != nil {
		return "", err
	}
	status, out, err := runLaunch(t, l, outR, outW)
	if err == nil && status != 0 {
		err = errors.New(out)
	}
	return out, err
}

// TestRootListener: the descriptor that goes out is the filter's listener.
func TestRootListener(t *testing.T) {
	needRoot(t)
	for _, noNewPrivileges := range []bool{false, true} {
		n := testNode(t)
		s := testSpec()
		s.Process.Args, s.Process.NoNewPrivileges = []string{"probe", "0"}, noNewPrivileges
		s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: "/not/used/here", Syscalls: []specs.LinuxSyscall{{Names: []string{"getsid"}, Action: specs.ActNotify}}}
		kind, number := "", 0
		_, met, launched := attended(t, n, s, Attendant{Listener: func(_ context.Context, pid int, f *os.File) error {
			defer f.Close() // whoever waits gets ENOSYS
			number = pid
			var err error
			kind, err = os.Readlink("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
			return err
		}})
		if launched != nil || met != nil || kind != "anon_inode:seccomp notify" || number == 0 {
			t.Errorf("launch: %v, attendant: %v, descriptor %q of process %d", launched, met, kind, number)
		}
	}
}

func TestRunHook(t *testing.T) {
	state := specs.State{Version: "1.3.0", ID: "c1", Status: specs.StateCreating, Pid: 7, Bundle: t.TempDir()}
	file := filepath.Join(state.Bundle, "out")
	sh := func(script string) specs.Hook {
		return specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"WHO=hook", "PATH=/usr/bin:/bin"}}
	}
	if err := RunHook(t.Context(), Prestart, sh(`(pwd; echo $WHO; env | wc -l; cat) > out`), state); err != nil {
		t.Fatal(err)
	}
	want := state.Bundle + "\nhook\n3\n" + `{"ociVersion":"1.3.0","id":"c1","status":"creating","pid":7,"bundle":"` + state.Bundle + `"}`
	if got, _ := os.ReadFile(file); string(got) != want {
		t.Errorf("it says %q, want %q", got, want)
	}
	err := RunHook(t.Context(), CreateRuntime, sh("echo why; echo not >&2; exit 3"), state)
	if err == nil || err.Error() != "createRuntime hook /bin/sh: exit status 3: why\nnot" {
		t.Errorf("failing: %v", err)
	}
	err = RunHook(t.Context(), Poststop, specs.Hook{Path: "/no/such/hook"}, state)
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "poststop hook /no/such/hook") {
		t.Errorf("missing: %v", err)
	}
	second := 1
	slow := sh("echo slow; sleep 100 & sleep 100")
	slow.Timeout = &second
	begin := time.Now()
	err = RunHook(t.Context(), Poststart, slow, state)
	if took := time.Since(begin); !errors.Is(err, ErrHookTimeout) || !strings.Contains(err.Error(), "of 1s: slow") || took > 30*time.Second {
		t.Errorf("slow: %v after %v", err, took)
	}
}

func TestHookOutput(t *testing.T) {
	var o HookOutput
	for range 3 * maxHookOutput {
		o.Write([]byte("ab"))
	}
	if s := o.String(); len(s) != maxHookOutput+len("…") || !strings.HasSuffix(s, "abab") || !strings.HasPrefix(s, "…") {
		t.Errorf("%d bytes: %.20q", len(s), s)
	}
}
