package sandbox

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestFilters(t *testing.T) {
	d := newWorld(t).start()
	a, b := d.runPod(podConfig("a")), d.runPod(podConfig("b"))
	if err := d.m.StopPod(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	ready, notReady := PodReady, PodNotReady
	for name, c := range map[string]struct {
		filter PodFilter
		want   []string
	}{
		"all":        {PodFilter{}, []string{a, b}},
		"id":         {PodFilter{ID: b}, []string{b}},
		"short id":   {PodFilter{ID: a[:13]}, []string{a}},
		"ready":      {PodFilter{State: &ready}, []string{a}},
		"not ready":  {PodFilter{State: &notReady}, []string{b}},
		"label":      {PodFilter{Labels: map[string]string{"app": "a"}}, []string{a}},
		"two labels": {PodFilter{Labels: map[string]string{"app": "a", "x": ""}}, nil},
		"both":       {PodFilter{ID: a, State: &notReady}, nil},
	} {
		var got []string
		for _, p := range d.m.Pods(c.filter) {
			got = append(got, p.ID)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, wanted %v", name, got, c.want)
		}
	}
	one, two := d.create(a, containerConfig("one")), d.create(a, containerConfig("two"))
	d.begin(two)
	running := ContainerRunning
	for name, c := range map[string]struct {
		filter ContainerFilter
		want   []string
	}{
		"all":     {ContainerFilter{}, []string{one, two}},
		"pod":     {ContainerFilter{PodID: a[:10]}, []string{one, two}},
		"other":   {ContainerFilter{PodID: b}, nil},
		"id":      {ContainerFilter{ID: two}, []string{two}},
		"running": {ContainerFilter{State: &running}, []string{two}},
		"label":   {ContainerFilter{Labels: map[string]string{"app": "a"}}, nil},
	} {
		var got []string
		for _, c := range d.m.Containers(c.filter) {
			got = append(got, c.ID)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, wanted %v", name, got, c.want)
		}
	}
}

func TestAmbiguousBeginningsFindNothing(t *testing.T) {
	x := newIndex()
	for _, id := range []string{"aab", "aac", "b"} {
		rec := samplePod()
		rec.ID = id
		x.addPod(newPod(t.Context(), *rec))
	}
	for id, found := range map[string]bool{"": false, "a": false, "aa": false, "aab": true, "b": true, "c": false, "bb": false} {
		p, err := x.pod(id)
		if (err == nil) != found || found && p.id[:len(id)] != id {
			t.Errorf("%q: %v", id, err)
		}
		if several := id == "a" || id == "aa"; errors.Is(err, ErrAmbiguous) != several {
			t.Errorf("%q: %v, ambiguous: want %v", id, err, several)
		}
	}
}

// An ambiguous id is told, by calls too to which an unknown one is a success.
func TestAmbiguousBeginningsAreRefused(t *testing.T) {
	d := newWorld(t).start()
	for i := range 17 { // two ids begin with the same of 16 digits
		d.create(d.runPod(podConfig(fmt.Sprintf("p%d", i))), containerConfig("c"))
	}
	pod := commonBeginning(d.m.Pods(PodFilter{}), func(p *PodInfo) string { return p.ID })
	container := commonBeginning(d.m.Containers(ContainerFilter{}), func(c *ContainerInfo) string { return c.ID })
	for name, err := range map[string]error{
		"StopPod":         d.m.StopPod(t.Context(), pod),
		"RemovePod":       d.m.RemovePod(t.Context(), pod),
		"StopContainer":   d.m.StopContainer(t.Context(), container, 0),
		"RemoveContainer": d.m.RemoveContainer(t.Context(), container),
		"StartContainer":  d.m.StartContainer(t.Context(), container),
	} {
		if !errors.Is(err, ErrAmbiguous) {
			t.Errorf("%s: %v, want ErrAmbiguous", name, err)
		}
	}
	if pods, containers := len(d.m.Pods(PodFilter{})), len(d.m.Containers(ContainerFilter{})); pods != 17 || containers != 17 {
		t.Errorf("%d pods and %d containers are left of 17", pods, containers)
	}
}

func commonBeginning[T any](all []T, id func(T) string) string {
	seen := map[string]bool{}
	for _, v := range all {
		first := id(v)[:1]
		if seen[first] {
			return first
		}
		seen[first] = true
	}
	return ""
}

// What a status shows of a pod and its containers is of one moment: a pod that is not
// ready any more has no container that runs, and one that is ready again none of before.
func TestPodAndContainersAreOfOneMoment(t *testing.T) {
	d := newWorld(t).start()
	id := d.runPod(podConfig("web"))
	for i := range 4 {
		d.begin(d.create(id, containerConfig(fmt.Sprintf("c%d", i))))
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			pod, containers, err := d.m.Pod(id)
			if errors.Is(err, ErrNotFound) {
				return
			}
			if err != nil || pod == nil {
				t.Errorf("got %v, %v", pod, err)
				return
			}
			exited := 0
			for _, c := range containers {
				if c.PodID != id {
					t.Errorf("container of pod %s", c.PodID)
				}
				if c.State == ContainerExited {
					exited++
				}
			}
			if pod.State == PodReady && exited > 0 {
				t.Errorf("the pod is ready, and %d of its containers were killed by its stop", exited)
			}
		}
	})
	time.Sleep(time.Millisecond)
	if err := d.m.RemovePod(t.Context(), id); err != nil {
		t.Error(err)
	}
	close(stop)
	wg.Wait()
}

// Who asks for what is just being removed gets it, or is told that it is not there.
func TestWhatIsBeingRemovedIsThereOrNot(t *testing.T) {
	d := newWorld(t).start()
	p := newPod(t.Context(), *samplePod())
	d.m.index.addPod(p)
	c := newContainer(p, *sampleContainer())
	d.m.addContainer(c)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // the end of a removal, again and again
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, gone := range []bool{true, false} {
				p.mu.Lock()
				p.record.State, c.record.State = PodReady, ContainerCreated
				if gone {
					p.record.State, c.record.State = podGone, containerGone
				}
				p.publish()
				c.publish()
				p.mu.Unlock()
			}
		}
	})
	for range 20000 {
		if i, _, err := d.m.Pod(p.id); err == nil && i == nil {
			t.Fatal("no pod, and no error")
		}
		if i, err := d.m.Container(c.id); err == nil && i == nil {
			t.Fatal("no container, and no error")
		}
	}
	close(stop)
	wg.Wait()
}

// Lists go on while everything moves, and each entry is whole.
func TestListsUnderConcurrentLife(t *testing.T) {
	d := newWorld(t).start()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for attempt := range 3 {
				pod := podConfig(fmt.Sprintf("web-%d", i))
				pod.Metadata.Attempt = uint32(attempt)
				if err := d.life(pod, containerConfig("c")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for {
		for _, p := range d.m.Pods(PodFilter{}) {
			if p.State == PodReady && (len(p.IPs) == 0 || p.NetNS == "") || p.Config.Metadata.Name == "" {
				t.Errorf("half a pod: %+v", p)
			}
		}
		for _, c := range d.m.Containers(ContainerFilter{}) {
			if c.State == ContainerRunning && (c.PID == 0 || c.StartedAt.IsZero()) || c.State == ContainerExited && c.ExitCode != 0 && c.FinishedAt.IsZero() || c.User == nil {
				t.Errorf("half a container: %+v", c)
			}
		}
		select {
		case <-done:
			d.settled()
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// A read waits for nothing, though the pod's turn is taken and its network hangs.
func TestReadsWaitForNothing(t *testing.T) {
	w := newWorld(t)
	d := w.start()
	pod := d.runPod(podConfig("web"))
	leave, err := d.index(pod).take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer leave()
	hang := make(chan struct{})
	defer close(hang)
	w.busy = func() { <-hang }
	go func() { _, _ = d.m.RunPod(d.m.closing, podConfig("hangs")) }()
	start := time.Now()
	for range 1000 {
		if _, _, err := d.m.Pod(pod); err != nil || len(d.m.Pods(PodFilter{})) != 1 {
			t.Fatal(err)
		}
		d.m.Containers(ContainerFilter{})
		d.m.Ready()
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("it took %s", took)
	}
}

func BenchmarkPods(b *testing.B) {
	m := &Manager{base: &base{index: newIndex()}}
	for i := range 1000 {
		rec := samplePod()
		rec.ID, rec.Config = newID(), podConfig(fmt.Sprint(i))
		m.index.addPod(newPod(b.Context(), *rec))
	}
	filter := PodFilter{Labels: map[string]string{"app": "7"}}
	for b.Loop() {
		if len(m.Pods(filter)) != 1 {
			b.Fatal("not found")
		}
	}
}
