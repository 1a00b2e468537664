package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-runtime/berth/oci/criu"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// fakeCRIU dumps nothing, as long as dump takes, and restores nothing.
type fakeCRIU struct{ dump func() }

func (fakeCRIU) Check(context.Context) error { return nil }

func (f fakeCRIU) Dump(_ context.Context, d criu.Dump) error {
	if err := d.Seized(); err != nil {
		return err
	}
	f.dump()
	return d.Captured()
}

func (fakeCRIU) NewRestorer(context.Context) (*criu.Restorer, error) {
	return nil, errFault
}

// A call that is repeated while the first one's work goes on joins it, although the directory isn't empty any more.
func TestCheckpointPodIsJoined(t *testing.T) {
	d := newWorld(t).start()
	var dumps atomic.Int32
	entered, proceed := make(chan struct{}, 2), make(chan struct{})
	d.m.base.parts.CRIU = fakeCRIU{func() {
		dumps.Add(1)
		entered <- struct{}{}
		<-proceed
	}}
	pod := d.runPod(podConfig("web"))
	c := d.create(pod, containerConfig("app"))
	d.begin(c)
	output := t.TempDir()
	ended := make(chan error, 2)
	checkpoint := func() { ended <- d.m.CheckpointPod(t.Context(), pod, output, []string{c}) }
	go checkpoint()
	<-entered
	go checkpoint()
	time.Sleep(200 * time.Millisecond) // so that it has joined
	close(proceed)
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if n := dumps.Load(); n != 1 {
		t.Errorf("%d dumps", n)
	}
	var names []string
	entries, err := os.ReadDir(output)
	for _, e := range entries {
		names = append(names, strings.ReplaceAll(e.Name(), c, "ID"))
	}
	if got := strings.Join(names, " "); err != nil || !strings.Contains(got, "ID.tar") || !strings.Contains(got, "pod.dump") || len(names) != 3 {
		t.Errorf("written: %q, %v", got, err)
	}
	if err := d.m.CheckpointPod(t.Context(), pod, output, []string{c}); !errors.Is(err, spec.ErrInvalid) {
		t.Errorf("into a directory that isn't empty: %v", err)
	}
}

// Two pods can't be written to one directory, whatever it is called; the second attempt leaves what the first writes alone.
func TestCheckpointPodsToOneDirectory(t *testing.T) {
	d := newWorld(t).start()
	entered, proceed := make(chan struct{}), make(chan struct{})
	d.m.base.parts.CRIU = fakeCRIU{func() { close(entered); <-proceed }}
	pods, containers := make([]string, 2), make([]string, 2)
	for i, name := range []string{"one", "two"} {
		pods[i] = d.runPod(podConfig(name))
		containers[i] = d.create(pods[i], containerConfig("app"))
		d.begin(containers[i])
	}
	output, link := t.TempDir(), filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(output, link); err != nil {
		t.Fatal(err)
	}
	first := make(chan error, 1)
	go func() { first <- d.m.CheckpointPod(t.Context(), pods[0], output, containers[:1]) }() // ends with proceed
	<-entered
	before, err := os.ReadDir(output)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.m.CheckpointPod(t.Context(), pods[1], link, containers[1:]); !errors.Is(err, ErrState) || !strings.Contains(err.Error(), link) {
		t.Errorf("the second: %v", err)
	}
	if now, err := os.ReadDir(output); err != nil || len(now) != len(before) || len(now) == 0 {
		t.Errorf("the first one's files were %v, and are %v, %v", before, now, err)
	}
	close(proceed)
	if err := <-first; err != nil {
		t.Errorf("the first: %v", err)
	}
	if err := d.m.CheckpointPod(t.Context(), pods[1], output, containers[1:]); !errors.Is(err, spec.ErrInvalid) {
		t.Errorf("into a directory that has a checkpoint: %v", err)
	}
}

// A terminal that isn't in the container's mounts can't be dumped, which is said before criu is asked.
func TestCheckpointOnAHostsTerminal(t *testing.T) {
	d := newWorld(t).start()
	d.m.base.parts.CRIU = fakeCRIU{func() { t.Error("criu was asked") }}
	pod := d.runPod(podConfig("web"))
	config := containerConfig("app")
	config.TTY, config.Mounts = true, []spec.Mount{{HostPath: t.TempDir(), ContainerPath: "/dev"}}
	c := d.create(pod, config)
	d.begin(c)
	if err := d.m.CheckpointContainer(t.Context(), c, filepath.Join(t.TempDir(), "x.tar"), 0); !errors.Is(err, ErrState) || !strings.Contains(err.Error(), "terminal") {
		t.Error(err)
	}
}
