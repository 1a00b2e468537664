package blackbox

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
)

// atOnce calls f so many times in parallel and returns what the calls returned.
func atOnce(t *testing.T, n int, f func() (string, error)) []string {
	t.Helper()
	ids, errs := make([]string, n), make([]error, n)
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() { ids[i], errs[i] = f() })
	}
	wait.Wait()
	for _, err := range errs {
		if err != nil {
			t.Errorf("one of %d equal calls: %v", n, err)
		}
	}
	return ids
}

func allEqual(t *testing.T, what string, ids []string) {
	t.Helper()
	for _, id := range ids {
		if id != ids[0] || id == "" {
			t.Errorf("%s: ids %q are not all the same", what, ids)
			return
		}
	}
}

func TestRootRetriesJoin(t *testing.T) {
	d := start(t)
	config := d.PodConfig("joined")
	run := func() (string, error) {
		r, err := d.Runtime.RunPodSandbox(d.Context(), &cri.RunPodSandboxRequest{Config: config})
		return r.GetPodSandboxId(), err
	}
	ids := atOnce(t, 5, run)
	again, err := run() // after it was done
	check(t, err)
	allEqual(t, "RunPodSandbox", append(ids, again))

	container := harness.ContainerConfig("c", harness.Sleep)
	create := func() (string, error) {
		r, err := d.Runtime.CreateContainer(d.Context(), &cri.CreateContainerRequest{PodSandboxId: ids[0], Config: container, SandboxConfig: config})
		return r.GetContainerId(), err
	}
	made := atOnce(t, 5, create)
	again, err = create()
	check(t, err)
	allEqual(t, "CreateContainer", append(made, again))

	list, err := d.Runtime.ListPodSandbox(d.Context(), &cri.ListPodSandboxRequest{})
	check(t, err)
	want(t, "pods", len(list.Items), 1)
	containers, err := d.Runtime.ListContainers(d.Context(), &cri.ListContainersRequest{})
	check(t, err)
	want(t, "containers", len(containers.Containers), 1)

	next := proto.Clone(config).(*cri.PodSandboxConfig)
	next.Metadata.Attempt = 1
	r, err := d.Runtime.RunPodSandbox(d.Context(), &cri.RunPodSandboxRequest{Config: next})
	check(t, err)
	if r.PodSandboxId == ids[0] {
		t.Error("another attempt joined the first one's pod")
	}
}

// TestRootChangedConfigIsRefused has a client change what it asks for, and not the attempt.
func TestRootChangedConfigIsRefused(t *testing.T) {
	d := start(t)
	pod := d.RunPod(d.PodConfig("kept"))
	c := pod.Create(harness.ContainerConfig("c", harness.Sleep))

	changed := proto.Clone(pod.Config).(*cri.PodSandboxConfig)
	changed.Labels = map[string]string{"a": "b"}
	_, err := d.Runtime.RunPodSandbox(d.Context(), &cri.RunPodSandboxRequest{Config: changed})
	refused(t, err, pod.ID, "labels")

	other := harness.ContainerConfig("c", "echo another")
	_, err = d.Runtime.CreateContainer(d.Context(), &cri.CreateContainerRequest{PodSandboxId: pod.ID, Config: other, SandboxConfig: pod.Config})
	refused(t, err, c.ID, "command")
	c.Start()
	_, err = d.Runtime.CreateContainer(d.Context(), &cri.CreateContainerRequest{PodSandboxId: pod.ID, Config: c.Config, SandboxConfig: pod.Config})
	refused(t, err, c.ID, "running")
	other.Metadata.Attempt = 1
	if pod.Run(other).Wait().ExitCode != 0 {
		t.Error("the next attempt did not run")
	}
}

// refused wants an AlreadyExists that names what is there, and why.
func refused(t *testing.T, err error, id, why string) {
	t.Helper()
	if status.Code(err) != codes.AlreadyExists || !strings.Contains(err.Error(), id) || !strings.Contains(err.Error(), why) {
		t.Errorf("got %v, wanted AlreadyExists with %s and %s", err, id, why)
	}
}

// TestRootWorkGoesOnPastTheDeadline has clients that give up at every moment of a
// pod's start: the retry must find a pod, and the end must find nothing.
func TestRootWorkGoesOnPastTheDeadline(t *testing.T) {
	d := start(t)
	config := d.PodConfig("impatient")
	for i := range 20 {
		config := proto.Clone(config).(*cri.PodSandboxConfig)
		config.Metadata.Attempt = uint32(i)
		ctx, cancel := context.WithTimeout(d.Context(), time.Duration(i)*300*time.Microsecond)
		_, _ = d.Runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config}) // may be in time
		cancel()
		pod := d.RunPod(config)
		container := harness.ContainerConfig("c", harness.Sleep)
		ctx, cancel = context.WithTimeout(d.Context(), time.Duration(i)*100*time.Microsecond)
		_, _ = d.Runtime.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: pod.ID, Config: container, SandboxConfig: config})
		cancel()
		pod.Run(container)
		pod.Remove()
	}
}

func TestRootStopsInParallel(t *testing.T) {
	d := start(t)
	pod := d.RunPod(d.PodConfig("stops"))
	c := pod.Run(harness.ContainerConfig("c", harness.Sleep))
	atOnce(t, 6, func() (string, error) {
		_, err := d.Runtime.StopContainer(d.Context(), &cri.StopContainerRequest{ContainerId: c.ID, Timeout: 5})
		return "", err
	})
	atOnce(t, 6, func() (string, error) {
		_, err := d.Runtime.StopPodSandbox(d.Context(), &cri.StopPodSandboxRequest{PodSandboxId: pod.ID})
		return "", err
	})
	atOnce(t, 6, func() (string, error) {
		_, err := d.Runtime.RemovePodSandbox(d.Context(), &cri.RemovePodSandboxRequest{PodSandboxId: pod.ID})
		return "", err
	})
}

// TestRootListsDoNotWait asks for lists and statuses while a container is being
// stopped.
func TestRootListsDoNotWait(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("busy")))
	c := pod.Run(harness.ContainerConfig("stubborn", `trap "" TERM; echo ready; while :; do sleep 1; done`))
	d.Eventually("the trap to be set", func() bool { return len(c.Log()) > 0 })
	stopped := make(chan error, 1)
	go func() {
		_, err := d.Runtime.StopContainer(d.Context(), &cri.StopContainerRequest{ContainerId: c.ID, Timeout: 3})
		stopped <- err
	}()
	begin := time.Now()
	asked := 0
	for time.Since(begin) < time.Second {
		one := time.Now()
		pod.Status()
		c.Status()
		_, err := d.Runtime.ListContainers(d.Context(), &cri.ListContainersRequest{})
		check(t, err)
		if took := time.Since(one); took > 500*time.Millisecond {
			t.Errorf("statuses and a list took %v while a container was being stopped", took)
		}
		asked++
	}
	want(t, "exec while it is being stopped", c.Exec("echo works"), "works")
	check(t, <-stopped)
	if asked < 10 {
		t.Errorf("only %d rounds in a second", asked)
	}
}

// TestRootRemovedBehindTheBack removes by hand what a pod has: its stop and removal
// must not mind.
func TestRootRemovedBehindTheBack(t *testing.T) {
	d := start(t)
	pod := d.RunPod(d.PodConfig("behind"))
	pod.Run(harness.ContainerConfig("c", harness.Sleep))
	check(t, unpin("/run/netns/berth-"+pod.ID))
	check(t, os.RemoveAll(pod.Config.LogDirectory))
	pod.Remove()
}
