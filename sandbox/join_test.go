package sandbox

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-runtime/berth/sandbox/spec"
)

func TestRunPodIsJoined(t *testing.T) {
	w := newWorld(t)
	entered, proceed := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.busy = func() { once.Do(func() { close(entered) }); <-proceed }
	d := w.start()
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := d.m.RunPod(ctx, podConfig("web"))
		first <- err
	}()
	<-entered
	cancel() // the client's patience ends, the work does not
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled call: %v", err)
	}
	if got := d.m.Pods(PodFilter{}); len(got) != 0 {
		t.Errorf("half a pod is shown: %v", got)
	}
	ids := make(chan string, 3)
	for range cap(ids) {
		go func() {
			id, err := d.m.RunPod(t.Context(), podConfig("web"))
			if err != nil {
				t.Error(err)
			}
			ids <- id
		}()
	}
	time.Sleep(10 * time.Millisecond) // so that some join before the end, and some after it
	close(proceed)
	id := <-ids
	if other := <-ids; other != id || <-ids != id || d.runPod(podConfig("web")) != id {
		t.Error("ids differ")
	}
	if got := d.m.Pods(PodFilter{}); len(got) != 1 {
		t.Errorf("%d pods", len(got))
	}
	next := podConfig("web")
	next.Metadata.Attempt = 1
	if d.runPod(next) == id {
		t.Error("another attempt is the same pod")
	}
}

func TestCreateContainerIsJoined(t *testing.T) {
	d := newWorld(t).start()
	pod := d.runPod(podConfig("web"))
	leave, err := d.index(pod).take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := d.m.CreateContainer(ctx, pod, containerConfig("c")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("first call: %v", err)
	}
	leave()
	id := d.create(pod, containerConfig("c"))
	if again := d.create(pod, containerConfig("c")); again != id {
		t.Error("ids differ")
	}
	if got := d.m.Containers(ContainerFilter{}); len(got) != 1 {
		t.Errorf("%d containers", len(got))
	}
	d.settled()
}

// Another configuration under the name and attempt of what is there is refused, whether that is
// there already or on its way.
func TestAnotherConfigIsNotJoined(t *testing.T) {
	w := newWorld(t)
	entered, proceed := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.busy = func() { once.Do(func() { close(entered) }); <-proceed }
	d := w.start()
	first := make(chan string, 1)
	go func() { id, _ := d.m.RunPod(t.Context(), podConfig("web")); first <- id }()
	<-entered
	changed := podConfig("web")
	changed.Hostname, changed.Labels = "other", map[string]string{"secret": "s3cret"}
	joined := make(chan error, 1)
	go func() { _, err := d.m.RunPod(t.Context(), changed); joined <- err }()
	time.Sleep(10 * time.Millisecond)
	close(proceed)
	pod := <-first
	refused := func(what string, err error, fields string) {
		t.Helper()
		if !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), fields) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("pod under way", <-joined, "hostname, labels differ")
	_, err := d.m.RunPod(t.Context(), changed)
	refused("pod", err, pod)

	c := d.create(pod, containerConfig("c"))
	other := containerConfig("c")
	other.Args, other.Envs = []string{"x"}, []spec.Env{{Key: "PASSWORD", Value: []byte("s3cret")}}
	_, err = d.m.CreateContainer(t.Context(), pod, other)
	refused("container", err, "args, envs differ")
	if again := d.create(pod, containerConfig("c")); again != c {
		t.Error("the same config is another container")
	}
	d.begin(c)
	_, err = d.m.CreateContainer(t.Context(), pod, containerConfig("c"))
	refused("container that runs", err, "which is running")
	other.Metadata.Attempt = 1
	if d.create(pod, other) == c {
		t.Error("another attempt is the same container")
	}
}

func (d *daemon) index(podID string) *pod {
	d.t.Helper()
	p, err := d.m.index.pod(podID)
	if err != nil {
		d.t.Fatal(err)
	}
	return p
}

func TestStopInterruptsWhatIsBeingSetUp(t *testing.T) {
	d := newWorld(t).start()
	pod := d.runPod(podConfig("web"))
	leave, err := d.index(pod).take(t.Context()) // as a start that hangs
	if err != nil {
		t.Fatal(err)
	}
	created := make(chan error, 1)
	go func() {
		_, err := d.m.CreateContainer(t.Context(), pod, containerConfig("c"))
		created <- err
	}()
	stopped := make(chan error, 1)
	go func() { stopped <- d.m.StopPod(t.Context(), pod) }()
	if err := <-created; !errors.Is(err, ErrState) {
		t.Errorf("create: %v", err)
	}
	leave()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	d.settled()
}

func TestTasks(t *testing.T) {
	tasks := newTasks(t.Context(), quiet())
	ctx := t.Context()
	type key struct{}
	got, err := tasks.do(context.WithValue(ctx, key{}, "kept"), "a", time.Minute, func(ctx context.Context) (string, error) {
		return ctx.Value(key{}).(string), nil
	})
	if got != "kept" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	_, err = tasks.do(ctx, "b", time.Millisecond, func(ctx context.Context) (string, error) {
		<-ctx.Done()
		return "", context.Cause(ctx)
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("beyond its limit: %v", err)
	}
	ended := make(chan error, 1)
	if !tasks.goes(func(ctx context.Context) { <-ctx.Done(); ended <- context.Cause(ctx) }) {
		t.Error("background work was refused")
	}
	closing, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	tasks.close(closing)
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("ended by %v", err)
	}
	if _, err := tasks.do(ctx, "c", time.Minute, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	if tasks.goes(nil) {
		t.Error("background work began after the end")
	}
}
