package sandbox

import (
	"errors"
	"testing"
)

// A refusal says once what was wanted, of what, and why not.
func TestStateErrorsArePlain(t *testing.T) {
	d := newWorld(t).start()
	pod := d.runPod(podConfig("web"))
	c := d.create(pod, containerConfig("c"))
	d.begin(c)
	err := d.m.StartContainer(t.Context(), c)
	if want := "start container c: container " + c + " is running: wrong state"; !errors.Is(err, ErrState) || err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	if err := d.m.StopPod(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	_, err = d.m.CreateContainer(t.Context(), pod, containerConfig("d"))
	if want := "create container d: pod " + pod + " is not ready: wrong state"; err == nil || err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	err = d.m.UpdateContainer(t.Context(), c, nil)
	if want := "update: container " + c + " is exited: wrong state"; err == nil || err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}
