package cri

import (
	"bytes"
	"context"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/berth-runtime/berth/sandbox"
	"github.com/berth-runtime/berth/sandbox/spec"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// door is a served Server on an in-memory connection, and its clients.
type door struct {
	v1.RuntimeServiceClient
	images v1.ImageServiceClient
	conn   *grpc.ClientConn
	rooms  *fakeRooms
	log    *logtest.Hook
	server *Server
}

func open(t *testing.T, rooms *fakeRooms) *door {
	t.Helper()
	return openWith(t, rooms, fakeImages{rooms})
}

// openWith takes another image store.
func openWith(t *testing.T, rooms *fakeRooms, images Images) *door {
	t.Helper()
	log, hook := logtest.NewNullLogger()
	log.SetLevel(logrus.DebugLevel)
	server := NewServer(Config{
		Version:  "1.2.3",
		Handlers: Handlers{{Name: "berth", RecursiveReadOnly: true, UserNamespaces: true}},
		Info:     func() map[string]any { return map[string]any{"config": map[string]string{"root": "/r"}} },
	}, Parts{Pods: rooms, Containers: rooms, Node: rooms, Images: images, Stats: rooms, Checkpoints: rooms, Log: log})
	listener := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:berth", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		server.Stop(t.Context())
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return &door{v1.NewRuntimeServiceClient(conn), v1.NewImageServiceClient(conn), conn, rooms, hook, server}
}

func wantCode(t *testing.T, what string, err error, code codes.Code) {
	t.Helper()
	if got := status.Code(err); got != code {
		t.Errorf("%s: %v, want %s", what, err, code)
	}
}

func TestPodCalls(t *testing.T) {
	d := open(t, &fakeRooms{})
	run, err := d.RunPodSandbox(t.Context(), &v1.RunPodSandboxRequest{
		Config: &v1.PodSandboxConfig{Metadata: &v1.PodSandboxMetadata{Name: "web"}}, RuntimeHandler: "berth"})
	if err != nil || run.PodSandboxId != "pod-1" {
		t.Errorf("run: %v, %v", run, err)
	}
	if _, err = d.StopPodSandbox(t.Context(), &v1.StopPodSandboxRequest{PodSandboxId: "a"}); err != nil {
		t.Error(err)
	}
	if _, err = d.RemovePodSandbox(t.Context(), &v1.RemovePodSandboxRequest{PodSandboxId: "b"}); err != nil {
		t.Error(err)
	}
	ready := sandbox.PodReady
	if _, err = d.ListPodSandbox(t.Context(), &v1.ListPodSandboxRequest{Filter: &v1.PodSandboxFilter{
		Id: "c", State: &v1.PodSandboxStateValue{State: v1.PodSandboxState_SANDBOX_READY}, LabelSelector: map[string]string{"k": "v"},
	}}); err != nil {
		t.Error(err)
	}
	if _, err = d.ListPodSandbox(t.Context(), &v1.ListPodSandboxRequest{}); err != nil {
		t.Error(err)
	}
	want := []any{
		[]any{"RunPod", &spec.Pod{Metadata: spec.PodMetadata{Name: "web"}, RuntimeHandler: "berth"}},
		[]any{"StopPod", "a"},
		[]any{"RemovePod", "b"},
		[]any{"Pods", sandbox.PodFilter{ID: "c", State: &ready, Labels: map[string]string{"k": "v"}}},
		[]any{"Pods", sandbox.PodFilter{}},
	}
	if !reflect.DeepEqual(d.rooms.calls, want) {
		t.Errorf("calls\n%v\nwant\n%v", d.rooms.calls, want)
	}
}

func TestUnknownHandler(t *testing.T) {
	d := open(t, &fakeRooms{})
	_, err := d.RunPodSandbox(t.Context(), &v1.RunPodSandboxRequest{
		Config: &v1.PodSandboxConfig{Metadata: &v1.PodSandboxMetadata{}}, RuntimeHandler: "runsc"})
	wantCode(t, "a pod with it", err, codes.InvalidArgument)
	_, err = d.images.PullImage(t.Context(), &v1.PullImageRequest{Image: &v1.ImageSpec{Image: "x", RuntimeHandler: "runsc"}})
	wantCode(t, "an image for it", err, codes.InvalidArgument)
	if len(d.rooms.calls) != 0 {
		t.Errorf("the rooms were asked: %v", d.rooms.calls)
	}
}

// With a timestamp kubelet's gate EventedPLEG would have it run init containers for ever.
func TestPodStatus(t *testing.T) {
	d := open(t, fullRooms())
	got, err := d.PodSandboxStatus(t.Context(), &v1.PodSandboxStatusRequest{PodSandboxId: "text"})
	if err != nil {
		t.Fatal(err)
	}
	if got.Timestamp != 0 || len(got.ContainersStatuses) != 1 || len(got.Info) != 0 {
		t.Errorf("%v", got)
	}
	want := []any{[]any{"Pod", "text"}} // in one look: the two must not be of different moments
	if !reflect.DeepEqual(d.rooms.calls, want) {
		t.Errorf("calls %v, want %v", d.rooms.calls, want)
	}
	calls := &podCalls{cfg: Config{API: APIConfig{PodStatusTimestamp: true}}, pods: d.rooms}
	begin := time.Now().UnixNano()
	got, err = calls.PodSandboxStatus(t.Context(), &v1.PodSandboxStatusRequest{PodSandboxId: "text"})
	if err != nil || got.Timestamp < begin || got.Timestamp > time.Now().UnixNano() {
		t.Errorf("asked for a timestamp at %d: %v, %v", begin, got.GetTimestamp(), err)
	}
	_, err = d.PodSandboxStatus(t.Context(), &v1.PodSandboxStatusRequest{PodSandboxId: "other"})
	wantCode(t, "status of an unknown pod", err, codes.NotFound)
	_, err = d.ContainerStatus(t.Context(), &v1.ContainerStatusRequest{ContainerId: "other"})
	wantCode(t, "status of an unknown container", err, codes.NotFound)
}

func TestContainerCalls(t *testing.T) {
	d := open(t, &fakeRooms{})
	created, err := d.CreateContainer(t.Context(), &v1.CreateContainerRequest{PodSandboxId: "p", Config: &v1.ContainerConfig{
		Metadata: &v1.ContainerMetadata{Name: "web"}, Image: &v1.ImageSpec{Image: "i"}}})
	if err != nil || created.ContainerId != "container-1" {
		t.Errorf("create: %v, %v", created, err)
	}
	if _, err = d.StartContainer(t.Context(), &v1.StartContainerRequest{ContainerId: "a"}); err != nil {
		t.Error(err)
	}
	if _, err = d.StopContainer(t.Context(), &v1.StopContainerRequest{ContainerId: "b", Timeout: 30}); err != nil {
		t.Error(err)
	}
	if _, err = d.RemoveContainer(t.Context(), &v1.RemoveContainerRequest{ContainerId: "c"}); err != nil {
		t.Error(err)
	}
	exited := sandbox.ContainerExited
	if _, err = d.ListContainers(t.Context(), &v1.ListContainersRequest{Filter: &v1.ContainerFilter{
		Id: "d", PodSandboxId: "p", State: &v1.ContainerStateValue{State: v1.ContainerState_CONTAINER_EXITED},
	}}); err != nil {
		t.Error(err)
	}
	want := []any{
		[]any{"CreateContainer", "p", &spec.Container{Metadata: spec.ContainerMetadata{Name: "web"}, Image: spec.ImageRef{Image: "i"}}},
		[]any{"StartContainer", "a"},
		[]any{"StopContainer", "b", 30 * time.Second},
		[]any{"RemoveContainer", "c"},
		[]any{"Containers", sandbox.ContainerFilter{ID: "d", PodID: "p", State: &exited}},
	}
	if !reflect.DeepEqual(d.rooms.calls, want) {
		t.Errorf("calls\n%v\nwant\n%v", d.rooms.calls, want)
	}
}

func TestExecSync(t *testing.T) {
	d := open(t, &fakeRooms{exec: sandbox.ExecResult{Stdout: []byte{0xff}, Stderr: []byte("e"), ExitCode: 7}})
	req := &v1.ExecSyncRequest{ContainerId: "c", Cmd: []string{"false"}, Timeout: 2}
	got, err := d.ExecSync(t.Context(), req)
	if err != nil || got.ExitCode != 7 || !bytes.Equal(got.Stdout, []byte{0xff}) || string(got.Stderr) != "e" {
		t.Errorf("%v, %v", got, err)
	}
	want := []any{[]any{"ExecSync", "c", []string{"false"}, 2 * time.Second}}
	if !reflect.DeepEqual(d.rooms.calls, want) {
		t.Errorf("calls %v", d.rooms.calls)
	}
	d.rooms.err = sandbox.ErrTimeout
	_, err = d.ExecSync(t.Context(), req)
	wantCode(t, "timeout", err, codes.DeadlineExceeded)
}

// An answer of nearly 16 MiB, as an exec may give, goes through.
func TestLargeMessages(t *testing.T) {
	d := open(t, &fakeRooms{exec: sandbox.ExecResult{Stdout: make([]byte, maxMessage-64)}})
	got, err := d.ExecSync(t.Context(), &v1.ExecSyncRequest{ContainerId: "c", Cmd: []string{"x"}})
	if err != nil || len(got.Stdout) != maxMessage-64 {
		t.Errorf("%d bytes, %v", len(got.GetStdout()), err)
	}
	_, err = d.ExecSync(t.Context(), &v1.ExecSyncRequest{ContainerId: strings.Repeat("x", 15<<20), Cmd: []string{"x"}})
	if err != nil {
		t.Error(err)
	}
}

func TestRequestsWithoutWhatMustBeThere(t *testing.T) {
	d := open(t, &fakeRooms{})
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"run":    func() error { _, err := d.RunPodSandbox(ctx, &v1.RunPodSandboxRequest{}); return err },
		"stop":   func() error { _, err := d.StopPodSandbox(ctx, &v1.StopPodSandboxRequest{}); return err },
		"remove": func() error { _, err := d.RemovePodSandbox(ctx, &v1.RemovePodSandboxRequest{}); return err },
		"status": func() error { _, err := d.PodSandboxStatus(ctx, &v1.PodSandboxStatusRequest{}); return err },
		"create": func() error { _, err := d.CreateContainer(ctx, &v1.CreateContainerRequest{}); return err },
		"create, no image": func() error {
			_, err := d.CreateContainer(ctx, &v1.CreateContainerRequest{PodSandboxId: "p"})
			return err
		},
		"start":            func() error { _, err := d.StartContainer(ctx, &v1.StartContainerRequest{}); return err },
		"stop container":   func() error { _, err := d.StopContainer(ctx, &v1.StopContainerRequest{}); return err },
		"remove container": func() error { _, err := d.RemoveContainer(ctx, &v1.RemoveContainerRequest{}); return err },
		"container status": func() error { _, err := d.ContainerStatus(ctx, &v1.ContainerStatusRequest{}); return err },
		"exec":             func() error { _, err := d.ExecSync(ctx, &v1.ExecSyncRequest{}); return err },
		"exec, no command": func() error { _, err := d.ExecSync(ctx, &v1.ExecSyncRequest{ContainerId: "c"}); return err },
		"pull":             func() error { _, err := d.images.PullImage(ctx, &v1.PullImageRequest{}); return err },
		"image status":     func() error { _, err := d.images.ImageStatus(ctx, &v1.ImageStatusRequest{}); return err },
		"remove image":     func() error { _, err := d.images.RemoveImage(ctx, &v1.RemoveImageRequest{}); return err },
		"pod state": func() error {
			_, err := d.ListPodSandbox(ctx, &v1.ListPodSandboxRequest{Filter: &v1.PodSandboxFilter{State: &v1.PodSandboxStateValue{State: 2}}})
			return err
		},
		"container state": func() error {
			_, err := d.ListContainers(ctx, &v1.ListContainersRequest{Filter: &v1.ContainerFilter{State: &v1.ContainerStateValue{State: 4}}})
			return err
		},
	} {
		wantCode(t, name, call(), codes.InvalidArgument)
	}
	if len(d.rooms.calls) != 0 {
		t.Errorf("the rooms were asked: %v", d.rooms.calls)
	}
}

// Each method hands the rooms' error on, with its code.
func TestErrorsOfTheRooms(t *testing.T) {
	d := open(t, &fakeRooms{err: sandbox.ErrNotFound})
	ctx := t.Context()
	image := &v1.ImageSpec{Image: "x"}
	for name, call := range map[string]func() error{
		"run": func() error {
			_, err := d.RunPodSandbox(ctx, &v1.RunPodSandboxRequest{Config: &v1.PodSandboxConfig{Metadata: &v1.PodSandboxMetadata{}}})
			return err
		},
		"stop": func() error {
			_, err := d.StopPodSandbox(ctx, &v1.StopPodSandboxRequest{PodSandboxId: "x"})
			return err
		},
		"remove": func() error {
			_, err := d.RemovePodSandbox(ctx, &v1.RemovePodSandboxRequest{PodSandboxId: "x"})
			return err
		},
		"create": func() error {
			_, err := d.CreateContainer(ctx, &v1.CreateContainerRequest{PodSandboxId: "x", Config: &v1.ContainerConfig{Metadata: &v1.ContainerMetadata{}, Image: image}})
			return err
		},
		"start":          func() error { _, err := d.StartContainer(ctx, &v1.StartContainerRequest{ContainerId: "x"}); return err },
		"stop container": func() error { _, err := d.StopContainer(ctx, &v1.StopContainerRequest{ContainerId: "x"}); return err },
		"remove container": func() error {
			_, err := d.RemoveContainer(ctx, &v1.RemoveContainerRequest{ContainerId: "x"})
			return err
		},
		"exec": func() error {
			_, err := d.ExecSync(ctx, &v1.ExecSyncRequest{ContainerId: "x", Cmd: []string{"x"}})
			return err
		},
		"pull":         func() error { _, err := d.images.PullImage(ctx, &v1.PullImageRequest{Image: image}); return err },
		"image status": func() error { _, err := d.images.ImageStatus(ctx, &v1.ImageStatusRequest{Image: image}); return err },
		"remove image": func() error { _, err := d.images.RemoveImage(ctx, &v1.RemoveImageRequest{Image: image}); return err },
		"file system":  func() error { _, err := d.images.ImageFsInfo(ctx, &v1.ImageFsInfoRequest{}); return err },
		"import":       func() error { _, err := ImportImage(ctx, d.conn, strings.NewReader("x"), ""); return err },
	} {
		wantCode(t, name, call(), codes.NotFound)
	}
}

// A panic ends its request only, and the log has the stack and no request.
func TestPanic(t *testing.T) {
	d := open(t, &fakeRooms{panics: true})
	_, err := d.StartContainer(t.Context(), &v1.StartContainerRequest{ContainerId: "the-id"})
	wantCode(t, "panic", err, codes.Internal)
	if _, err = d.Version(t.Context(), &v1.VersionRequest{}); err != nil {
		t.Errorf("after the panic: %v", err)
	}
	var logged bool
	for _, e := range d.log.AllEntries() {
		if e.Level == logrus.ErrorLevel && strings.Contains(e.Data["error"].(string), "StartContainer") {
			logged = true
		}
	}
	if !logged {
		t.Error("no stack in the log")
	}
}

// A container's environment is secret; so are the credentials of a pull.
func TestRequestsAreNotLogged(t *testing.T) {
	d := open(t, &fakeRooms{err: sandbox.ErrState})
	_, err := d.CreateContainer(t.Context(), &v1.CreateContainerRequest{PodSandboxId: "p", Config: &v1.ContainerConfig{
		Metadata: &v1.ContainerMetadata{Name: "web"}, Image: &v1.ImageSpec{Image: "i"},
		Envs: []*v1.KeyValue{{Key: "TOKEN", Value: []byte("s3cr3t")}}}})
	wantCode(t, "create", err, codes.FailedPrecondition)
	entries := d.log.AllEntries()
	if len(entries) != 1 || entries[0].Data["op"] != "/runtime.v1.RuntimeService/CreateContainer" || entries[0].Data["error"] == nil {
		t.Fatalf("log %v, want one line with the method and its error", entries)
	}
	text, err := entries[0].String()
	if err != nil || strings.Contains(text, "s3cr3t") {
		t.Errorf("log line %q, %v", text, err)
	}
}

// Stop lets a request finish, and breaks it off when its time is up.
func TestStop(t *testing.T) {
	d := open(t, &fakeRooms{})
	reader, writer := io.Pipe()
	defer writer.Close()
	done := make(chan error, 1)
	go func() {
		_, err := ImportImage(context.Background(), d.conn, reader, "")
		done <- err
	}()
	if _, err := writer.Write(make([]byte, importPiece)); err != nil { // the request is under way
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	d.server.Stop(ctx)
	writer.Close()
	if err := <-done; status.Code(err) != codes.Unavailable {
		t.Errorf("the broken off request: %v, want Unavailable", err)
	}
}
