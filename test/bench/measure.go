package main

import (
	"context"
	"fmt"
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
	ctx, cancel := t.context()
	defer cancel()
	var lists []time.Duration
	for range 50 {
		begin := time.Now()
		_, err := t.runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
		t.must("list pods", err)
		_, err = t.runtime.ListContainers(ctx, &cri.ListContainersRequest{})
		t.must("list containers", err)
		lists = append(lists, time.Since(begin))
	}
	r.times(fmt.Sprintf("ListPodSandbox + ListContainers, %d pods", o.pods), lists, 0)
	return pods
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
