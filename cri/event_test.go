package cri

import (
	"context"
	"testing"
	"time"

	"github.com/berth-runtime/berth/sandbox"
	"google.golang.org/grpc/codes"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestContainerEvents(t *testing.T) {
	rooms := fullRooms()
	rooms.events = make(chan *sandbox.Event)
	d := open(t, rooms)
	stream, err := d.GetContainerEvents(t.Context(), &v1.GetEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[sandbox.EventKind]v1.ContainerEventType{
		sandbox.EventCreated: 0, sandbox.EventStarted: 1, sandbox.EventStopped: 2, sandbox.EventDeleted: 3,
	}
	for kind, want := range kinds {
		rooms.events <- &sandbox.Event{ID: "c", Kind: kind, At: time.Unix(0, 77), Pod: rooms.pods[0], Containers: rooms.containers}
		e, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if e.ContainerId != "c" || e.ContainerEventType != want || e.CreatedAt != 77 ||
			e.PodSandboxStatus.GetId() != rooms.pods[0].ID || len(e.ContainersStatuses) != 1 || e.ContainersStatuses[0].Id != rooms.containers[0].ID {
			t.Errorf("kind %d: %v", kind, e)
		}
	}
	close(rooms.events)
	_, err = stream.Recv()
	wantCode(t, "a client that lags", err, codes.Aborted)
}

// A daemon that is stopped doesn't wait for those that listen.
func TestEventsEndWithTheServer(t *testing.T) {
	d := open(t, &fakeRooms{})
	stream, err := d.GetContainerEvents(t.Context(), &v1.GetEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	begin := time.Now()
	d.server.Stop(ctx)
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("the server took %v to stop", took)
	}
	_, err = stream.Recv()
	wantCode(t, "events at the end", err, codes.Unavailable)
}
