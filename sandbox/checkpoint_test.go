package sandbox

import (
	"archive/tar"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// An archive's names lead nowhere but into its directory.
func TestUnpackArchive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hostile.tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	out := tar.NewWriter(f)
	for _, h := range []tar.Header{
		{Name: "../climbed", Typeflag: tar.TypeReg, Size: 1},
		{Name: "/absolute", Typeflag: tar.TypeReg, Size: 1},
		{Name: "checkpoint/../../climbed", Typeflag: tar.TypeReg, Size: 1},
		{Name: "checkpoint/deep/er", Typeflag: tar.TypeReg, Size: 1},
		{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/etc"},
		{Name: "link/climbed", Typeflag: tar.TypeReg, Size: 1},
		{Name: "checkpoint/", Typeflag: tar.TypeDir},
		{Name: "checkpoint/core-1.img", Typeflag: tar.TypeReg, Size: 1},
		{Name: "./spec.dump", Typeflag: tar.TypeReg, Size: 1},
	} {
		if err := out.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := out.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(out.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := unpackArchive(t.Context(), path, filepath.Join(dir, "in")); err != nil {
		t.Fatal(err)
	}
	var names []string
	err = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if !e.IsDir() {
			names = append(names, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if got := strings.Join(names, " "); err != nil || got != "in/checkpoint/core-1.img in/spec.dump" {
		t.Errorf("unpacked %q, %v", got, err)
	}
	if err := unpackArchive(t.Context(), path, filepath.Join(dir, "in")); err == nil {
		t.Error("files were written over")
	}
}

// Nobody waits for who may write to a FIFO.
func TestReadArchiveOfAFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() { // ends at the latest with the writer below
		_, err := readArchive(path)
		read <- err
	}()
	select {
	case err := <-read:
		if !errors.Is(err, spec.ErrInvalid) || !strings.Contains(err.Error(), "not a regular file") {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("a FIFO is waited for")
		if f, err := os.OpenFile(path, os.O_RDWR, 0); err == nil {
			f.Close()
		}
	}
}

func TestMatches(t *testing.T) {
	make := func(edit func(*specs.Spec)) *specs.Spec {
		s := &specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: "pid"}, {Type: "network", Path: "/x"}}},
			Mounts: []specs.Mount{{Destination: "/data", Type: "bind", Source: "/one"}, {Destination: "/proc", Type: "proc"}}}
		edit(s)
		return s
	}
	was := make(func(*specs.Spec) {})
	for what, w := range map[string]struct {
		now  *specs.Spec
		good bool
	}{
		"another source": {make(func(s *specs.Spec) { s.Mounts[0].Source = "/two"; s.Linux.Namespaces[1].Path = "" }), true},
		"no volume":      {make(func(s *specs.Spec) { s.Mounts = s.Mounts[1:] }), false},
		"one more":       {make(func(s *specs.Spec) { s.Mounts = append(s.Mounts, specs.Mount{Destination: "/b", Type: "bind"}) }), false},
		"host network":   {make(func(s *specs.Spec) { s.Linux.Namespaces = s.Linux.Namespaces[:1] }), false},
		"a terminal":     {make(func(s *specs.Spec) { s.Process.Terminal = true }), false},
		"hooks":          {make(func(s *specs.Spec) { s.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/x"}}} }), false},
	} {
		if err := matches(w.now, was); (err == nil) != w.good || err != nil && !errors.Is(err, ErrState) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// What a configuration says of a restored process, and of what it sees, must be what the checkpoint has.
func TestSameProcess(t *testing.T) {
	make := func(edit func(*specs.Spec)) *specs.Spec {
		s := &specs.Spec{
			Process: &specs.Process{Args: []string{"sh"}, Env: []string{"A=b", "C=d", "HOSTNAME=here"}, Cwd: "/"}, Root: &specs.Root{},
			Linux: &specs.Linux{MaskedPaths: []string{"/proc/a", "/proc/b"}, ReadonlyPaths: []string{"/proc/c"}, Devices: []specs.LinuxDevice{{Path: "/dev/a"}, {Path: "/dev/b"}}},
		}
		edit(s)
		return s
	}
	was := make(func(*specs.Spec) {})
	for what, w := range map[string]struct {
		edit  func(*specs.Spec)
		words string // "": nothing is wrong
	}{
		"another order and hostname": {func(s *specs.Spec) {
			s.Process.Env, s.Linux.MaskedPaths = []string{"HOSTNAME=there", "C=d", "A=b"}, []string{"/proc/b", "/proc/a", "/proc/a"}
		}, ""},
		"fewer devices":     {func(s *specs.Spec) { s.Linux.Devices = s.Linux.Devices[:1] }, ""},
		"arguments":         {func(s *specs.Spec) { s.Process.Args = []string{"sh", "-x"} }, "arguments"},
		"a user":            {func(s *specs.Spec) { s.Process.User.UID = 7 }, "user"},
		"a masked path":     {func(s *specs.Spec) { s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, "/proc/x") }, "masked paths"},
		"no read-only path": {func(s *specs.Spec) { s.Linux.ReadonlyPaths = nil }, "read-only paths"},
		"a read-only root":  {func(s *specs.Spec) { s.Root.Readonly = true }, "read-only root"},
		"a device":          {func(s *specs.Spec) { s.Linux.Devices[0].Path = "/dev/x" }, "/dev/x"},
	} {
		r := &containerCreate{c: &container{spec: make(w.edit), config: containerConfig("app")}, dumped: was, archive: "/x.tar"}
		err := r.restorable()
		if (err == nil) != (w.words == "") || err != nil && (!errors.Is(err, ErrState) || !strings.Contains(err.Error(), w.words)) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Nobody leaves before the last has come, nor waits for one that doesn't.
func TestMeeting(t *testing.T) {
	const n = 5
	m := newMeeting(n)
	var come atomic.Int32
	left := make(chan int32, n)
	for range n {
		go func() { // ends with the meeting
			come.Add(1)
			if err := m.wait(t.Context()); err != nil {
				t.Error(err)
			}
			left <- come.Load()
		}()
	}
	for range n {
		if got := <-left; got != n {
			t.Errorf("one left when %d had come", got)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(ErrTimeout)
	if err := newMeeting(2).wait(ctx); !errors.Is(err, ErrTimeout) {
		t.Errorf("alone: %v", err)
	}
}
