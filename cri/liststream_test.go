package cri

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/sandbox"
	"github.com/berth-runtime/berth/sandbox/spec"
	"google.golang.org/grpc/codes"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestSendLists(t *testing.T) {
	sized := func(kib ...int) (out []*v1.PodSandbox) {
		for _, k := range kib {
			out = append(out, &v1.PodSandbox{Id: strings.Repeat("x", k<<10)})
		}
		return out
	}
	for _, c := range []struct {
		name  string
		items []*v1.PodSandbox
		want  []int // how many in each message
	}{
		{"none", nil, nil},
		{"one", sized(1), []int{1}},
		{"that fit", sized(100, 100, 100), []int{3}},
		{"that don't fit", sized(600, 300, 300, 900, 200), []int{2, 1, 1, 1}},
		{"too large alone", sized(10, 3000, 10), []int{1, 1, 1}},
	} {
		var got []int
		var all []*v1.PodSandbox
		if err := sendLists(c.items, func(part []*v1.PodSandbox) error {
			got, all = append(got, len(part)), append(all, part...)
			return nil
		}); err != nil {
			t.Error(err)
		}
		if !slices.Equal(got, c.want) || !slices.Equal(all, c.items) {
			t.Errorf("%s: messages of %v items, wanted %v", c.name, got, c.want)
		}
	}
	broken := errors.New("client is gone")
	if err := sendLists(sized(900, 900), func([]*v1.PodSandbox) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// More than one message holds: a list that is sent as a stream has all of it.
func TestStreamedLists(t *testing.T) {
	rooms := &fakeRooms{}
	for i := range 300 {
		big := map[string]string{"a": strings.Repeat("x", 100<<10)}
		rooms.pods = append(rooms.pods, &sandbox.PodInfo{ID: fmt.Sprint(i), Config: &spec.Pod{Annotations: big}})
		rooms.containers = append(rooms.containers, &sandbox.ContainerInfo{ID: fmt.Sprint(i), Config: &spec.Container{Annotations: big}})
	}
	d := open(t, rooms)
	if _, err := d.ListPodSandbox(t.Context(), &v1.ListPodSandboxRequest{}); err == nil {
		t.Fatal("the list fits into one message: this tests nothing")
	}
	pods, err := d.StreamPodSandboxes(t.Context(), &v1.StreamPodSandboxesRequest{Filter: &v1.PodSandboxFilter{Id: "p"}})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for {
		part, err := pods.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range part.PodSandboxes {
			if p.Id != fmt.Sprint(n) {
				t.Fatalf("pod %s where %d belongs", p.Id, n)
			}
			n++
		}
	}
	containers, err := d.StreamContainers(t.Context(), &v1.StreamContainersRequest{Filter: &v1.ContainerFilter{Id: "c"}})
	if err != nil {
		t.Fatal(err)
	}
	m := 0
	for {
		part, err := containers.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		m += len(part.Containers)
	}
	if n != 300 || m != 300 {
		t.Errorf("%d pods and %d containers, wanted 300", n, m)
	}
	for _, want := range []any{[]any{"Pods", sandbox.PodFilter{ID: "p"}}, []any{"Containers", sandbox.ContainerFilter{ID: "c"}}} {
		if !slices.ContainsFunc(rooms.calls, func(call any) bool { return fmt.Sprint(call) == fmt.Sprint(want) }) {
			t.Errorf("filters are not asked for: no %v", want)
		}
	}
	bad := &v1.ContainerFilter{State: &v1.ContainerStateValue{State: 77}}
	stream, err := d.StreamContainers(t.Context(), &v1.StreamContainersRequest{Filter: bad})
	if err == nil {
		_, err = stream.Recv()
	}
	wantCode(t, "a state that isn't one", err, codes.InvalidArgument)
}

func TestStreamedImages(t *testing.T) {
	rooms := fullRooms()
	d := open(t, rooms)
	stream, err := d.images.StreamImages(t.Context(), &v1.StreamImagesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := stream.Recv()
	if err != nil || len(got.Images) != 1 || got.Images[0].Id != rooms.images[0].ID {
		t.Errorf("images %v, %v", got, err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the end is %v", err)
	}
}
