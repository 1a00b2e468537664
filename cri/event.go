package cri

import (
	"context"
	"fmt"

	"github.com/berth-runtime/berth/sandbox"
	"google.golang.org/grpc"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// errEnding is what long streams get when the daemon stops.
var errEnding = fmt.Errorf("berth is being stopped: %w", sandbox.ErrClosed)

// GetContainerEvents sends what happens from now on, to pods also, whose id then stands for the container's. It ends
// with the client, with the daemon, or when the client takes the events too slowly (Aborted): never without an error,
// for kubelet takes that for a broken runtime.
func (s *podCalls) GetContainerEvents(_ *v1.GetEventsRequest, stream grpc.ServerStreamingServer[v1.ContainerEventResponse]) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	defer context.AfterFunc(s.ending, func() { cancel(errEnding) })()
	return s.pods.Events(ctx, func(e *sandbox.Event) error { return stream.Send(encodeEvent(e)) })
}

func encodeEvent(in *sandbox.Event) *v1.ContainerEventResponse {
	out := &v1.ContainerEventResponse{
		ContainerId:        in.ID,
		ContainerEventType: eventKinds[in.Kind],
		CreatedAt:          encodeTime(in.At),
		PodSandboxStatus:   encodePodStatus(in.Pod),
	}
	for _, c := range in.Containers {
		out.ContainersStatuses = append(out.ContainersStatuses, encodeContainerStatus(c))
	}
	return out
}

var eventKinds = map[sandbox.EventKind]v1.ContainerEventType{
	sandbox.EventCreated: v1.ContainerEventType_CONTAINER_CREATED_EVENT,
	sandbox.EventStarted: v1.ContainerEventType_CONTAINER_STARTED_EVENT,
	sandbox.EventStopped: v1.ContainerEventType_CONTAINER_STOPPED_EVENT,
	sandbox.EventDeleted: v1.ContainerEventType_CONTAINER_DELETED_EVENT,
}
