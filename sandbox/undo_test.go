package sandbox

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/berth-runtime/berth/sandbox/keeper"
	"github.com/berth-runtime/berth/sandbox/spec"
)

func TestTransactionUndoesInReverse(t *testing.T) {
	var done []string
	failed, stuck := errors.New("failed"), errors.New("stuck")
	s := func(name string, do, undo error) step {
		return step{name: name,
			do: func(context.Context) error { done = append(done, name); return do },
			undo: func(ctx context.Context) error {
				done = append(done, "undo "+name)
				return errors.Join(undo, ctx.Err())
			},
		}
	}
	var tx transaction
	ctx, cancel := context.WithCancel(t.Context())
	err := tx.sequence(ctx, s("a", nil, nil), s("b", nil, stuck), s("c", failed, nil), s("d", nil, nil))
	if !errors.Is(err, failed) || err.Error() != "c: failed" {
		t.Errorf("got %v", err)
	}
	cancel() // the undo has a deadline of its own
	if err := tx.rollback(ctx); !errors.Is(err, stuck) || err.Error() != "undo b: stuck" {
		t.Errorf("rollback: %v", err)
	}
	want := []string{"a", "b", "c", "undo c", "undo b", "undo a"}
	if !slices.Equal(done, want) {
		t.Errorf("done %v, wanted %v", done, want)
	}
	if err := tx.rollback(ctx); !errors.Is(err, stuck) || done[len(done)-1] != "undo b" || len(done) != len(want)+1 {
		t.Errorf("second rollback: %v, %v", err, done)
	}
	if err := tx.run(ctx, s("late", nil, nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("step after the end: %v", err)
	}
}

func TestParallelStepsAllCount(t *testing.T) {
	one, two := errors.New("one"), errors.New("two")
	var both sync.WaitGroup
	both.Add(2)
	fail := func(err error) func(context.Context) error {
		return func(context.Context) error { both.Done(); both.Wait(); return err }
	}
	var tx transaction
	well := step{name: "b", do: func(context.Context) error { return nil }}
	var after bool
	never := step{name: "d", do: func(context.Context) error { after = true; return nil }}
	err := tx.parallel(t.Context(), []step{{name: "a", do: fail(one)}, never}, []step{well}, []step{well, {name: "c", do: fail(two)}})
	if !errors.Is(err, one) || !errors.Is(err, two) || after {
		t.Errorf("got %v; the step after a failed one was done: %v", err, after)
	}
}

// Nobody waits for a step whose sibling has failed, and it is undone all the same; what it says of its end is
// no news.
func TestParallelStepGivesUp(t *testing.T) {
	failed := errors.New("failed")
	for name, told := range map[string]func(context.Context) error{
		"cause": context.Cause,
		"error": func(ctx context.Context) error { return ctx.Err() },
	} {
		began := make(chan struct{})
		var undone []string
		slow := step{
			name: "slow",
			do:   func(ctx context.Context) error { close(began); <-ctx.Done(); return told(ctx) },
			undo: func(context.Context) error { undone = append(undone, "slow"); return nil },
		}
		quick := step{name: "quick", do: func(context.Context) error { <-began; return failed }}
		for _, order := range [][][]step{{{slow}, {quick}}, {{quick}, {slow}}} {
			var tx transaction
			if err := tx.parallel(t.Context(), order...); err == nil || err.Error() != "quick: failed" {
				t.Errorf("%s: %v", name, err)
			}
			if err := tx.rollback(t.Context()); err != nil || len(undone) != 1 {
				t.Errorf("%s: undone %v, %v", name, undone, err)
			}
			began, undone = make(chan struct{}), nil
		}
		// The caller's own end is told, by whoever meets it.
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(ErrClosed)
		var tx transaction
		if err := tx.parallel(ctx, []step{slow}, []step{quick}); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: cancelled: %v", name, err)
		}
	}
}

// Each operation of bringing a pod and a container up can fail.
func TestEveryFaultIsUndone(t *testing.T) {
	broken := errors.New("broken for the test")
	for _, c := range []struct {
		op, call string
	}{
		{"write pod", "RunPod"}, {"make shm", "RunPod"}, {"launch namespaces", "RunPod"}, {"pin", "RunPod"},
		{"hold", "RunPod"}, {"network add", "RunPod"}, {"launch pause", "RunPod"}, {"create cgroup", "RunPod"},
		{"prepare snapshot", "CreateContainer"}, {"mount snapshot", "CreateContainer"}, {"write container", "CreateContainer"},
		{"create cgroup", "CreateContainer"}, {"launch container", "StartContainer"},
	} {
		t.Run(c.call+" "+c.op, func(t *testing.T) {
			d := newWorld(t).start()
			pod := podConfig("web")
			pod.Security.Namespaces.PID = spec.NamespacePod
			container := containerConfig("c")
			container.Security.Namespaces.PID = spec.NamespacePod
			run := func(err error) (id string, _ error) {
				if c.call == "RunPod" {
					d.fail(c.op, err)
					return d.m.RunPod(t.Context(), pod)
				}
				podID := d.runPod(pod)
				if c.call == "CreateContainer" {
					d.fail(c.op, err)
					return d.m.CreateContainer(t.Context(), podID, container)
				}
				id = d.create(podID, container)
				d.fail(c.op, err)
				return id, d.m.StartContainer(t.Context(), id)
			}
			id, err := run(broken)
			if !errors.Is(err, broken) {
				t.Fatalf("got %v", err)
			}
			d.settled()
			if info, err := d.m.Container(id); c.call == "StartContainer" && (err != nil || info.State != ContainerExited || info.ExitCode != 128 || info.Reason != ReasonStartError || info.Message == "") {
				t.Errorf("container is %+v, %v", info, err)
			}
			// And the same again, when all is well.
			d.fail(c.op, nil)
			next := *container
			next.Metadata.Attempt, container = 1, &next
			if _, err = run(nil); err != nil {
				t.Errorf("second time: %v", err)
			}
			d.settled()
		})
	}
}

// A launch during which the keeper died is repeated, once.
func TestKeeperDiesDuringALaunch(t *testing.T) {
	d := newWorld(t).start()
	d.fail("launch namespaces", keeper.ErrInterrupted)
	pod := d.runPod(podConfig("web"))
	id := d.create(pod, containerConfig("c"))
	d.fail("launch container", keeper.ErrInterrupted)
	d.begin(id)
	d.mu.Lock()
	ops := strings.Join(d.ops, ", ")
	d.mu.Unlock()
	// What the first attempt may have become is killed first.
	if !strings.Contains(ops, "launch container, kill cgroup, delete cgroup, create cgroup, mount snapshot, launch container") {
		t.Errorf("operations: %s", ops)
	}
	d.settled()
}

func TestWhatCannotBeUndoneIsShown(t *testing.T) {
	d := newWorld(t).start()
	d.fail("hold", errors.New("no"))
	d.fail("network del", errors.New("plugin is broken"))
	if _, err := d.m.RunPod(t.Context(), podConfig("web")); err == nil {
		t.Fatal("it succeeded")
	}
	pods := d.m.Pods(PodFilter{})
	if len(pods) != 1 || pods[0].State != PodNotReady {
		t.Fatalf("pods are %v", pods)
	}
	if err := d.m.StopPod(t.Context(), pods[0].ID); err == nil {
		t.Error("it was stopped with its address")
	}
	d.fail("hold", nil)
	d.fail("network del", nil)
	// The identity is free all the same.
	again := d.runPod(podConfig("web"))
	if again == pods[0].ID {
		t.Error("the broken pod was returned")
	}
	if err := d.m.RemovePod(t.Context(), pods[0].ID); err != nil {
		t.Error(err)
	}
	d.settled()
}

// A creation whose undoing fails is nothing to clients; it goes with its pod, and the name is free meanwhile.
func TestWhatOfACreationCannotBeUndone(t *testing.T) {
	d := newWorld(t).start()
	pod := d.runPod(podConfig("web"))
	d.fail("mount snapshot", errFault)
	d.fail("delete cgroup", errFault)
	if _, err := d.m.CreateContainer(t.Context(), pod, containerConfig("c")); !errors.Is(err, errFault) {
		t.Fatalf("got %v", err)
	}
	d.fail("mount snapshot", nil)
	d.fail("delete cgroup", nil)
	if got := d.m.Containers(ContainerFilter{}); len(got) != 0 {
		t.Errorf("shown: %v", got)
	}
	d.begin(d.create(pod, containerConfig("c")))
	if err := d.m.RemovePod(t.Context(), pod); err != nil {
		t.Error(err)
	}
	d.settled()
}
