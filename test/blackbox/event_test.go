package blackbox

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
)

// Two listeners see the life of a pod alike; when the daemon stops, it doesn't wait for them.
func TestRootEvents(t *testing.T) {
	d := start(t)
	var streams []cri.RuntimeService_GetContainerEventsClient
	for range 2 {
		s, err := d.Runtime.GetContainerEvents(d.Context(), &cri.GetEventsRequest{})
		check(t, err)
		streams = append(streams, s)
	}
	// The answer to a call on the same connection comes after both are listening, or soon after.
	time.Sleep(100 * time.Millisecond)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("events")))
	c := pod.Run(harness.ContainerConfig("c", "exit 3"))
	c.Wait()
	c.Remove()
	pod.Stop()
	pod.Remove()
	names := map[string]string{pod.ID: "pod", c.ID: "container"}
	want := []string{
		"pod CREATED ready []", "pod STARTED ready []",
		"container CREATED ready [created]", "container STARTED ready [running]", "container STOPPED ready [exited 3]", "container DELETED ready []",
		"pod STOPPED not ready []", "pod DELETED not ready []",
	}
	for i, s := range streams {
		var got []string
		for range want {
			e, err := s.Recv()
			check(t, err)
			if e.PodSandboxStatus.GetMetadata().GetUid() == "" {
				t.Errorf("event %v names no pod", e)
			}
			got = append(got, fmt.Sprintf("%s %s %s %v", names[e.ContainerId], eventName(e), podState(e.PodSandboxStatus), states(e.ContainersStatuses)))
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("listener %d got\n%q\nwanted\n%q", i, got, want)
		}
	}
	begin := time.Now()
	d.Stop()
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("the daemon took %v to stop", took)
	}
	_, err := streams[0].Recv()
	wantError(t, err, codes.Unavailable)
	d.Restart()
}

// A listener that never reads costs the others nothing: they see each pod's end as soon as the call for it has returned.
func TestRootSlowListener(t *testing.T) {
	d := start(t)
	conn := dial(t, d)
	slow, err := cri.NewRuntimeServiceClient(conn).GetContainerEvents(d.Context(), &cri.GetEventsRequest{})
	check(t, err)
	quick, err := d.Runtime.GetContainerEvents(d.Context(), &cri.GetEventsRequest{})
	check(t, err)
	time.Sleep(100 * time.Millisecond) // both are listening
	ends := make(chan string, 1000)
	go func() { // ends with the stream
		for {
			e, err := quick.Recv()
			if err != nil {
				close(ends)
				return
			}
			if e.ContainerEventType == cri.ContainerEventType_CONTAINER_DELETED_EVENT {
				ends <- e.ContainerId
			}
		}
	}()
	// Some 300 KB of events, and a connection takes 64 that nobody reads.
	for i := range 80 {
		config := harness.OnHostNetwork(d.PodConfig(fmt.Sprint("slow-", i)))
		config.Annotations = map[string]string{"note": strings.Repeat("x", 1000)}
		pod := d.RunPod(config)
		pod.Remove()
		select {
		case id := <-ends:
			want(t, "pod whose end is told", id, pod.ID)
		case <-time.After(10 * time.Second):
			t.Fatalf("the quick listener was not told of the end of pod %d", i)
		}
	}
	first, err := slow.Recv() // what it gets is all that there was, from the first on
	check(t, err)
	want(t, "first event of the slow listener", first.PodSandboxStatus.GetMetadata().GetName(), "slow-0")
}

func eventName(e *cri.ContainerEventResponse) string {
	return map[cri.ContainerEventType]string{
		cri.ContainerEventType_CONTAINER_CREATED_EVENT: "CREATED", cri.ContainerEventType_CONTAINER_STARTED_EVENT: "STARTED",
		cri.ContainerEventType_CONTAINER_STOPPED_EVENT: "STOPPED", cri.ContainerEventType_CONTAINER_DELETED_EVENT: "DELETED",
	}[e.ContainerEventType]
}

func podState(s *cri.PodSandboxStatus) string {
	if s.GetState() == cri.PodSandboxState_SANDBOX_READY {
		return "ready"
	}
	return "not ready"
}

func states(all []*cri.ContainerStatus) []string {
	out := []string{}
	for _, s := range all {
		switch s.State {
		case cri.ContainerState_CONTAINER_CREATED:
			out = append(out, "created")
		case cri.ContainerState_CONTAINER_RUNNING:
			out = append(out, "running")
		case cri.ContainerState_CONTAINER_EXITED:
			out = append(out, fmt.Sprint("exited ", s.ExitCode))
		}
	}
	return out
}
