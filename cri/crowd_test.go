package cri

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/berth-runtime/berth/sandbox"
	"github.com/berth-runtime/berth/sandbox/spec"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// crowd is a node with n pods of a container each, with what kubelet writes on them.
func crowd(n int) *fakeRooms {
	rooms := &fakeRooms{}
	for i := range n {
		pod := &sandbox.PodInfo{ID: fmt.Sprintf("%064x", 1<<40+i), State: sandbox.PodReady, CreatedAt: time.Unix(1e9, int64(i)), Config: &spec.Pod{
			Metadata: spec.PodMetadata{Name: fmt.Sprintf("web-7d4b9c6f5-%05d", i), UID: fmt.Sprintf("0b5c1f2e-0000-4000-8000-%012d", i), Namespace: "default"},
			Labels: map[string]string{
				"app": "web", "pod-template-hash": "7d4b9c6f5", "io.kubernetes.pod.name": fmt.Sprintf("web-7d4b9c6f5-%05d", i),
				"io.kubernetes.pod.namespace": "default", "io.kubernetes.pod.uid": fmt.Sprintf("0b5c1f2e-0000-4000-8000-%012d", i),
			},
			Annotations: map[string]string{"kubernetes.io/config.seen": "2026-11-21T04:48:00.123456789Z", "kubernetes.io/config.source": "api"},
		}}
		rooms.pods = append(rooms.pods, pod)
		rooms.containers = append(rooms.containers, &sandbox.ContainerInfo{
			ID: fmt.Sprintf("%064x", 1<<41+i), PodID: pod.ID, State: sandbox.ContainerRunning, CreatedAt: pod.CreatedAt,
			ImageID: fmt.Sprintf("sha256:%064x", 7), ImageName: "registry.example/web:1", ImageDigest: fmt.Sprintf("registry.example/web@sha256:%064x", 8),
			Config: &spec.Container{
				Metadata: spec.ContainerMetadata{Name: "web"}, Image: spec.ImageRef{Image: fmt.Sprintf("sha256:%064x", 7), UserSpecifiedImage: "registry.example/web:1"},
				Labels: map[string]string{
					"io.kubernetes.container.name": "web", "io.kubernetes.pod.name": pod.Config.Metadata.Name,
					"io.kubernetes.pod.namespace": "default", "io.kubernetes.pod.uid": pod.Config.Metadata.UID,
				},
				Annotations: map[string]string{
					"io.kubernetes.container.hash": "5a6c9e3b", "io.kubernetes.container.restartCount": "0", "io.kubernetes.container.ports": `[{"containerPort":80,"protocol":"TCP"}]`,
					"io.kubernetes.container.terminationMessagePath": "/dev/termination-log", "io.kubernetes.container.terminationMessagePolicy": "File",
					"io.kubernetes.pod.terminationGracePeriod": "30",
				},
			},
		})
	}
	return rooms
}

// serve serves rooms on a socket, as to kubelet.
func serve(t testing.TB, rooms *fakeRooms) *grpc.ClientConn {
	t.Helper()
	log, _ := logtest.NewNullLogger()
	server := NewServer(Config{}, Parts{Pods: rooms, Containers: rooms, Node: rooms, Images: fakeImages{rooms}, Stats: rooms, Log: log})
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }() // ends with server.Stop
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		server.Stop(context.Background())
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return conn
}

// A list of a thousand costs what the socket does: of the 3.3 ms of an encoding remains less than one, most of it the reader's.
func BenchmarkListContainers(b *testing.B) {
	conn := serve(b, crowd(1000))
	b.Run("decoded", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r, err := v1.NewRuntimeServiceClient(conn).ListContainers(b.Context(), &v1.ListContainersRequest{})
			if err != nil || len(r.Containers) != 1000 {
				b.Fatalf("%d containers, %v", len(r.GetContainers()), err)
			}
		}
	})
	b.Run("received", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var n counted
			if err := conn.Invoke(b.Context(), v1.RuntimeService_ListContainers_FullMethodName, nil, &n, grpc.ForceCodec(rawCodec{})); err != nil || n < 1000 {
				b.Fatalf("%d bytes, %v", n, err)
			}
			b.SetBytes(int64(n))
		}
	})
}

// counted is how many bytes an answer has.
type counted int

// rawCodec asks with an empty message, and counts the answer without decoding it: what the server takes, and not the reader.
type rawCodec struct{}

func (rawCodec) Name() string                { return "proto" }
func (rawCodec) Marshal(any) ([]byte, error) { return nil, nil }
func (rawCodec) Unmarshal(data []byte, v any) error {
	*v.(*counted) = counted(len(data))
	return nil
}

// TestListsAreReadsOfMemory: a list of 1,000 pods or containers that were listed before costs the daemon no more memory than
// the addresses of what is kept. Time is measured by test/bench; what this counts is the same on a busy machine.
func TestListsAreReadsOfMemory(t *testing.T) {
	const count, runs = 1000, 20
	rooms := crowd(count)
	lister := &lister{rooms, rooms}
	for _, req := range []any{&v1.ListPodSandboxRequest{}, &v1.ListContainersRequest{}} {
		answer := func() {
			answer, err := lister.unary(t.Context(), req, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if sent, err := newCodec().Marshal(answer); err != nil || sent.Len() < 100*count {
				t.Fatalf("%T: %d bytes, %v", req, sent.Len(), err)
			}
		}
		var before, after runtime.MemStats
		answer()
		runtime.ReadMemStats(&before)
		for range runs {
			answer()
		}
		runtime.ReadMemStats(&after)
		objects, bytes := (after.Mallocs-before.Mallocs)/runs, (after.TotalAlloc-before.TotalAlloc)/runs
		if objects > count/10 || bytes > 64*count {
			t.Errorf("%T of %d makes %d objects and %d bytes of garbage: it was encoded or copied anew", req, count, objects, bytes)
		}
	}
}

// TestListsShowWhatChanged: what is kept encoded is of one moment, and the next shows.
func TestListsShowWhatChanged(t *testing.T) {
	rooms := crowd(3)
	client := v1.NewRuntimeServiceClient(serve(t, rooms))
	for range 2 {
		got, err := client.ListContainers(t.Context(), &v1.ListContainersRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range rooms.containers {
			if !proto.Equal(got.Containers[i], encodeContainer(c)) {
				t.Errorf("container %d: got %v, want %v", i, got.Containers[i], encodeContainer(c))
			}
		}
		pods, err := client.ListPodSandbox(t.Context(), &v1.ListPodSandboxRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range rooms.pods {
			if !proto.Equal(pods.Items[i], encodePod(p)) {
				t.Errorf("pod %d: got %v, want %v", i, pods.Items[i], encodePod(p))
			}
		}
		c, p := rooms.containers[1], rooms.pods[1]
		rooms.containers[1] = &sandbox.ContainerInfo{ID: c.ID, PodID: c.PodID, Config: c.Config, State: sandbox.ContainerExited, CreatedAt: c.CreatedAt}
		rooms.pods[1] = &sandbox.PodInfo{ID: p.ID, Config: p.Config, State: sandbox.PodNotReady, CreatedAt: p.CreatedAt}
	}
}
