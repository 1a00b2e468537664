package sandbox

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stubborn is a container that has ignored SIGTERM by the time it is returned.
func (d *daemon) stubborn(t *testing.T) string {
	t.Helper()
	ready := t.TempDir() + "/ready"
	d.command = []string{"sh", "-c", "trap '' TERM; : > " + ready + "; while :; do sleep 0.05; done"}
	id := d.create(d.runPod(podConfig("web")), containerConfig("c"))
	d.begin(id)
	d.eventually("signal is ignored", func() error { _, err := os.Stat(ready); return err })
	return id
}

func TestStopKillsAfterTheGracePeriod(t *testing.T) {
	d := newWorld(t).start()
	id := d.stubborn(t)
	start := time.Now()
	if err := d.m.StopContainer(t.Context(), id, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < 50*time.Millisecond {
		t.Errorf("it took %s", took)
	}
	if info, _ := d.m.Container(id); info.State != ContainerExited || info.ExitCode != 137 {
		t.Errorf("container is %+v", info)
	}
	d.settled()
}

func TestStopIsShortenedAndNotProlonged(t *testing.T) {
	d := newWorld(t).start()
	id := d.stubborn(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := d.m.StopContainer(ctx, id, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("first call: %v", err)
	}
	results := make(chan error, 2)
	go func() { results <- d.m.StopContainer(t.Context(), id, 100*time.Millisecond) }()
	time.Sleep(10 * time.Millisecond)
	go func() { results <- d.m.StopContainer(t.Context(), id, time.Hour) }()
	start := time.Now()
	for range cap(results) {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	d.settled()
}

func TestForceNeedsNoKeeper(t *testing.T) {
	d := newWorld(t).start()
	id := d.create(d.runPod(podConfig("web")), containerConfig("c"))
	d.begin(id)
	d.mu.Lock()
	d.connected = nil // the keeper tells nothing any more
	d.mu.Unlock()
	if err := d.m.StopContainer(t.Context(), id, 0); err != nil {
		t.Fatal(err)
	}
	if info, _ := d.m.Container(id); info.State != ContainerExited || info.ExitCode != 137 {
		t.Errorf("container is %+v", info)
	}
}

func TestStopEndsWithTheManager(t *testing.T) {
	d := newWorld(t).start()
	id := d.stubborn(t)
	stopped := make(chan error, 1)
	go func() { stopped <- d.m.StopContainer(t.Context(), id, time.Hour) }()
	time.Sleep(10 * time.Millisecond)
	start := time.Now()
	if err := d.m.Close(); err != nil {
		t.Error(err)
	}
	if err := <-stopped; !errors.Is(err, ErrClosed) {
		t.Errorf("stop: %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("close took %s", took)
	}
	next := d.world.start()
	if err := next.m.StopContainer(t.Context(), id, 0); err != nil {
		t.Error(err)
	}
}

func TestProcess(t *testing.T) {
	w := newWorld(t)
	d := w.start()
	id := d.create(d.runPod(podConfig("web")), containerConfig("c"))
	d.begin(id)
	c := d.m.index.exactly(id)
	p := c.running()
	if p == nil || !p.alive() {
		t.Fatal("it does not run")
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, errStillAlive)
	defer cancel()
	if err := p.wait(ctx); !errors.Is(err, errStillAlive) {
		t.Errorf("wait: %v", err)
	}
	if err := p.killGroup(); err != nil {
		t.Error(err)
	}
	if err := p.wait(t.Context()); err != nil {
		t.Errorf("wait for its end: %v", err)
	}
	d.awaitState(id, ContainerExited)
	if err := p.signal(unix.SIGTERM); err != nil {
		t.Errorf("signal to what is gone: %v", err)
	}
	p.release()
	d.eventually("descriptor is closed", func() error {
		if p.retain() {
			p.release()
			return errors.New("it has users")
		}
		return nil
	})
}
