package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// lives runs pods one after the other, from start to end.
func lives(t *target, o options, r *report) {
	var up, run, create, launch, exec, down []time.Duration
	for i := range o.rounds {
		p, err := t.start(i)
		t.must("pod", err)
		up, run, create, launch = append(up, p.up()), append(run, p.run), append(create, p.create), append(launch, p.launch)
		for range 3 {
			took, err := t.exec(p)
			t.must("pod", err)
			exec = append(exec, took)
		}
		took, err := t.end(p)
		t.must("pod", err)
		down = append(down, took)
	}
	r.times("RunPodSandbox + CreateContainer + StartContainer", up, 10)
	r.times("  RunPodSandbox", run, 0)
	r.times("  CreateContainer", create, 0)
	r.times("  StartContainer", launch, 0)
	r.times("ExecSync true", exec, 3)
	r.times("StopPodSandbox + RemovePodSandbox, grace 0", down, 10)
}

// crowd starts many pods, several at a time, and leaves them there.
func crowd(t *target, o options, r *report) []pod {
	pods, errs := make([]pod, o.pods), make([]error, o.pods)
	begin := time.Now()
	each(o.pods, o.parallel, func(i int) { pods[i], errs[i] = t.start(1000 + i) })
	took := time.Since(begin)
	for _, err := range errs {
		t.must("pod among many", err)
	}
	r.value(fmt.Sprintf("pods started a second, %d at a time", o.parallel), "%.0f/s", float64(o.pods)/took.Seconds(), 0)
	return pods
}

// reads measures lists and statuses while pods start and stop, to the last byte of each, and what statistics take.
func reads(t *target, pods []pod, r *report) {
	ctx, cancel := t.context()
	defer cancel()
	stop := make(chan struct{})
	var life sync.WaitGroup
	life.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			p, err := t.start(3000 + i)
			if err == nil {
				_, err = t.end(p)
			}
			if err != nil {
				t.bed.Errorf("pod beside the lists: %v", err)
				return
			}
		}
	})
	runtime := t.undecoded()
	calls := map[string]func(i int) error{
		"Version": func(int) error { // what the machine lets the least of calls have
			_, err := runtime.Version(ctx, &cri.VersionRequest{})
			return err
		},
		"ListPodSandbox": func(int) error {
			_, err := runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
			return err
		},
		"ListContainers": func(int) error {
			_, err := runtime.ListContainers(ctx, &cri.ListContainersRequest{})
			return err
		},
		"PodSandboxStatus": func(i int) error {
			_, err := runtime.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: pods[i%len(pods)].id})
			return err
		},
		"ContainerStatus": func(i int) error {
			_, err := runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: pods[i%len(pods)].container})
			return err
		},
	}
	took := map[string][]time.Duration{}
	for i := range 300 {
		for name, call := range calls {
			begin := time.Now()
			t.must(name, call(i))
			took[name] = append(took[name], time.Since(begin))
		}
	}
	close(stop)
	life.Wait()
	for _, name := range slices.Sorted(maps.Keys(took)) {
		r.p99(fmt.Sprintf("%s, %d pods and some that start and stop", name, len(pods)), took[name], 10)
		r.times("  of all", took[name], 0)
	}
	var stats []time.Duration
	for range 5 {
		time.Sleep(1100 * time.Millisecond) // what is younger is not measured again
		begin := time.Now()
		_, err := t.runtime.ListPodSandboxStats(ctx, &cri.ListPodSandboxStatsRequest{})
		t.must("list statistics", err)
		stats = append(stats, time.Since(begin))
	}
	r.times(fmt.Sprintf("ListPodSandboxStats, %d pods", len(pods)), stats, 0)
}

// clear ends the crowd.
func (t *target) clear(pods []pod, o options) {
	errs := make([]error, len(pods))
	each(len(pods), o.parallel, func(i int) { _, errs[i] = t.end(pods[i]) })
	for _, err := range errs {
		t.must("end pod", err)
	}
}

// each calls f for 0 to n-1, so many at a time.
func each(n, parallel int, f func(int)) {
	var wait sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for i := range n {
		slots <- struct{}{}
		wait.Go(func() {
			f(i)
			<-slots
		})
	}
	wait.Wait()
}

// starts measures how long the daemon takes from its start to its first answer.
func starts(t *target, o options, r *report, name string, bound float64) {
	var took []time.Duration
	for range o.restarts {
		t.daemon.Stop()
		begin := time.Now()
		t.daemon.Restart()
		took = append(took, time.Since(begin))
	}
	r.times(name, took, bound)
	ctx, cancel := context.WithTimeout(t.bed.ctx, time.Minute)
	defer cancel()
	_, err := t.runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	t.must("list pods after the starts", err)
}
