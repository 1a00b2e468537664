package oci

import (
	"bufio"
	"os"
	"testing"

	"github.com/berth-runtime/berth/oci/launch"
	"github.com/berth-runtime/berth/oci/mount"
	"github.com/berth-runtime/berth/oci/program"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Tests launch by these: newLauncher and begin for what they attend themselves, start for what is to run on, waiting for
// a container to do something with.

func newLauncher(t testing.TB) *launch.Launcher {
	t.Helper()
	l := launch.New(1)
	t.Cleanup(l.Close)
	return l
}

// descriptors are those of a launch's files.
func descriptors(l *Launch) []int {
	fds := make([]int, len(l.Files))
	for i, f := range l.Files {
		fds[i] = int(f.Fd())
	}
	return fds
}

// begin starts a launch, for a caller that waits for it and reaps it.
func begin(t testing.TB, l *Launch) *launch.Child {
	t.Helper()
	c, err := newLauncher(t).Start(l.Program, descriptors(l))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// running is a process that came of a launch.
type running struct{ PID, PidFD int }

// file is another descriptor of the process; the test's end closes it.
func (r running) file(t *testing.T) *os.File {
	t.Helper()
	f := os.NewFile(uintptr(dup(t, r.PidFD)), "process")
	t.Cleanup(func() { f.Close() })
	return f
}

// start launches, and leaves running what came of it; the test's end kills that.
func start(t *testing.T, l *Launch) running {
	t.Helper()
	c := begin(t, l)
	pid, err := c.Wait()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	r := running{pid, c.PidFD}
	if pid != c.PID { // the program went on in a second process
		unix.Close(c.PidFD)
		unix.Wait4(c.PID, nil, 0, nil)
		var openErr error
		if r.PidFD, openErr = unix.PidfdOpen(pid, 0); openErr != nil {
			t.Fatal(openErr)
		}
	}
	t.Cleanup(func() {
		unix.PidfdSendSignal(r.PidFD, unix.SIGKILL, nil, 0)
		unix.Wait4(r.PID, nil, 0, nil)
		unix.Close(r.PidFD)
	})
	if err != nil {
		t.Fatal(l.Explain(err))
	}
	return r
}

// waiting starts a container whose program is the probe, and waits ("probe wait").
func waiting(t *testing.T, n *Node, s *specs.Spec) running {
	t.Helper()
	s.Process.Args = []string{"probe", "wait"}
	root, _, err := mount.Bind(rootDir(t), program.MountOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	outR, outW := pipe(t)
	l, err := n.PrepareContainer(Container{Spec: s, Root: root, Stdout: outW})
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, l)
	saysWaiting(t, outR)
	return r
}

// saysWaiting reads what the probe says that waits.
func saysWaiting(t *testing.T, out *os.File) {
	t.Helper()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "waiting\n" {
		t.Fatalf("the process says %q, %v", line, err)
	}
}
