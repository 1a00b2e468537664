package sandbox

import (
	"errors"
	"syscall"
	"testing"
)

// A pod whose record the disk does not give keeps nobody from starting, and loses nothing by it.
func TestUnreadPodIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	first := w.start()
	lost, other := first.runPod(podConfig("lost")), first.runPod(podConfig("other"))
	c := first.create(lost, containerConfig("c"))
	first.begin(c)
	ends := first.create(lost, containerConfig("ends"))
	first.begin(ends)
	first.kill()

	second := w.prepare()
	second.fail("read record "+lost, syscall.EIO)
	if err := second.open(); err != nil {
		t.Fatal(err)
	}
	<-second.m.swept
	if pods := second.m.Pods(PodFilter{}); len(pods) != 1 || pods[0].ID != other || pods[0].State != PodReady {
		t.Errorf("pods %v", pods)
	}
	w.mu.Lock()
	process := w.kept[ends]
	w.mu.Unlock()
	if err := process.kill(); err != nil { // nobody hears of it for now
		t.Fatal(err)
	}
	<-process.ended
	again := second.runPod(podConfig("again")) // other work goes on
	if err := second.m.RemovePod(t.Context(), again); err != nil {
		t.Error(err)
	}
	if err := errors.Join(second.m.StopPod(t.Context(), other), second.m.RemovePod(t.Context(), other)); err != nil {
		t.Error(err)
	}
	second.kill()
	if err := second.m.Close(); err != nil {
		t.Error(err)
	}

	third := w.start()
	if pods := third.m.Pods(PodFilter{}); len(pods) != 1 || pods[0].ID != lost || pods[0].State != PodReady {
		t.Errorf("pods %v", pods)
	}
	third.awaitState(c, ContainerRunning)
	if got := third.awaitState(ends, ContainerExited); got.ExitCode != 137 {
		t.Errorf("exit code %d", got.ExitCode)
	}
	third.settled()
	if err := third.m.RemovePod(t.Context(), lost); err != nil {
		t.Error(err)
	}
	third.settled()
}

// Close gives up all pods, though one can't be.
func TestCloseReleasesAllPods(t *testing.T) {
	w := newWorld(t)
	d := w.start()
	pods := map[string]bool{d.runPod(podConfig("a")): true, d.runPod(podConfig("b")): true}
	for _, p := range d.m.index.allPods() {
		if p.shm == nil {
			t.Fatal("nothing to close")
		}
		p.shm.Close() // so that closing it again is an error
	}
	err := d.m.Close()
	if err == nil {
		t.Fatal("no error")
	}
	for _, p := range d.m.index.allPods() {
		if p.shm != nil || !pods[p.id] {
			t.Errorf("pod %s is open", p.id)
		}
	}
	if errs, ok := err.(interface{ Unwrap() []error }); !ok || len(errs.Unwrap()) != 2 {
		t.Errorf("got %v", err)
	}
}
