package sandbox

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// A pod that RunPod sets up meanwhile is not the restore's: it stays, whatever becomes of the restore.
func TestRestoreLeavesAnothersPod(t *testing.T) {
	w := newWorld(t)
	entered, proceed := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.busy = func() { once.Do(func() { close(entered) }); <-proceed }
	d := w.start()
	d.m.base.parts.CRIU = fakeCRIU{}
	ran := make(chan error, 1)
	go func() {
		_, err := d.m.RunPod(t.Context(), podConfig("web"))
		ran <- err
	}()
	<-entered
	restored := make(chan error, 1)
	go func() {
		_, err := d.m.restorePod(t.Context(), podConfig("web"), []*spec.Container{containerConfig("app")}, []string{"/nonexistent.tar"})
		restored <- err
	}()
	time.Sleep(50 * time.Millisecond) // so that it has joined; later it finds the pod
	close(proceed)
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if err := <-restored; !errors.Is(err, ErrExists) {
		t.Errorf("restored into another's pod: %v", err)
	}
	if got := d.m.Pods(PodFilter{}); len(got) != 1 || got[0].State != PodReady {
		t.Errorf("the pod is gone: %v", got)
	}
}
