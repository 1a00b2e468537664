package cri

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/berth-runtime/berth/imagestore"
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
	log, hook := logtest.NewNullLogger()
	log.SetLevel(logrus.DebugLevel)
	server := NewServer(Config{
		Version:  "1.2.3",
		Handlers: Handlers{{Name: "berth", RecursiveReadOnly: true, UserNamespaces: true}},
		Info:     func() map[string]any { return map[string]any{"config": map[string]string{"root": "/r"}} },
	}, Parts{Pods: rooms, Containers: rooms, Node: rooms, Images: fakeImages{rooms}, Log: log})
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

// kubelet doesn't start when one of the four is empty.
func TestVersion(t *testing.T) {
	got, err := open(t, &fakeRooms{}).Version(t.Context(), &v1.VersionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got.RuntimeName != "berth" || got.RuntimeVersion != "1.2.3" || got.RuntimeApiVersion != "v1" || got.Version != "0.1.0" {
		t.Errorf("%v", got)
	}
}

func TestStatus(t *testing.T) {
	d := open(t, &fakeRooms{})
	got, err := d.Status(t.Context(), &v1.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Info) != 0 {
		t.Errorf("info %v, and none was asked for", got.Info)
	}
	for _, c := range got.Status.Conditions {
		if !c.Status {
			t.Errorf("condition %s is false: %s", c.Type, c.Message)
		}
	}
	var names []string
	for _, h := range got.RuntimeHandlers {
		names = append(names, h.Name)
		if !h.Features.RecursiveReadOnlyMounts || !h.Features.UserNamespaces {
			t.Errorf("handler %q lacks features: %v", h.Name, h.Features)
		}
	}
	if !reflect.DeepEqual(names, []string{"", "berth"}) {
		t.Errorf("handlers %q, want the default without and with its name", names)
	}

	d.rooms.network = errors.New("no configuration in /etc/cni/net.d")
	if got, err = d.Status(t.Context(), &v1.StatusRequest{Verbose: true}); err != nil {
		t.Fatal(err)
	}
	network := got.Status.Conditions[1]
	if network.Type != "NetworkReady" || network.Status || network.Reason == "" || network.Message != d.rooms.network.Error() {
		t.Errorf("network condition %v", network)
	}
	if got.Info["config"] != `{"root":"/r"}` {
		t.Errorf("info %v, want JSON", got.Info)
	}
}

func TestRuntimeConfig(t *testing.T) {
	for driver, want := range map[string]v1.CgroupDriver{"systemd": v1.CgroupDriver_SYSTEMD, "cgroupfs": v1.CgroupDriver_CGROUPFS} {
		got, err := open(t, &fakeRooms{driver: driver}).RuntimeConfig(t.Context(), &v1.RuntimeConfigRequest{})
		if err != nil || got.Linux.CgroupDriver != want {
			t.Errorf("%s: %v, %v", driver, got, err)
		}
	}
}

func TestUpdateRuntimeConfig(t *testing.T) {
	d := open(t, &fakeRooms{})
	send := func(cidr string) error {
		_, err := d.UpdateRuntimeConfig(t.Context(), &v1.UpdateRuntimeConfigRequest{
			RuntimeConfig: &v1.RuntimeConfig{NetworkConfig: &v1.NetworkConfig{PodCidr: cidr}}})
		return err
	}
	if err := send(""); err != nil || len(d.rooms.calls) != 0 {
		t.Errorf("no CIDR: %v, calls %v", err, d.rooms.calls)
	}
	if err := send("10.1.0.0/24,fd00::/64"); err != nil {
		t.Error(err)
	}
	want := []any{[]any{"SetPodCIDRs", []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd00::/64")}}}
	if !reflect.DeepEqual(d.rooms.calls, want) {
		t.Errorf("calls %v, want %v", d.rooms.calls, want)
	}
	wantCode(t, "bad CIDR", send("10.1.0.0"), codes.InvalidArgument)
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

// With evented PLEG kubelet takes the containers from the pod's status, if it has
// a timestamp, and for at least as new as that.
func TestPodStatus(t *testing.T) {
	d := open(t, fullRooms())
	before := time.Now().UnixNano()
	got, err := d.PodSandboxStatus(t.Context(), &v1.PodSandboxStatusRequest{PodSandboxId: "text"})
	if err != nil {
		t.Fatal(err)
	}
	if got.Timestamp < before || len(got.ContainersStatuses) != 1 || len(got.Info) != 0 {
		t.Errorf("%v", got)
	}
	want := []any{[]any{"Pod", "text"}, []any{"Containers", sandbox.ContainerFilter{PodID: "text"}}}
	if !reflect.DeepEqual(d.rooms.calls, want) {
		t.Errorf("calls %v, want %v", d.rooms.calls, want)
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

func TestImages(t *testing.T) {
	image := &imagestore.Image{ID: "sha256:abc", Tags: []string{"web:1"}, Size: 10}
	image.Config.Config.User = "www"
	d := open(t, &fakeRooms{images: []*imagestore.Image{image}})
	pulled, err := d.images.PullImage(t.Context(), &v1.PullImageRequest{
		Image: &v1.ImageSpec{Image: "web:1"}, Auth: &v1.AuthConfig{Username: "u", Password: "p", ServerAddress: "r"}})
	if err != nil || pulled.ImageRef != image.ID {
		t.Errorf("pull: %v, %v, want the image's id", pulled, err)
	}
	if want := []any{"Pull", "web:1", &imagestore.Auth{Username: "u", Password: "p", ServerAddress: "r"}}; !reflect.DeepEqual(d.rooms.calls[0], want) {
		t.Errorf("pull asked %v, want %v", d.rooms.calls[0], want)
	}
	found, err := d.images.ImageStatus(t.Context(), &v1.ImageStatusRequest{Image: &v1.ImageSpec{Image: image.ID}})
	if err != nil || found.Image.GetId() != image.ID || found.Image.Username != "www" || found.Image.Uid != nil {
		t.Errorf("status: %v, %v", found, err)
	}
	absent, err := d.images.ImageStatus(t.Context(), &v1.ImageStatusRequest{Image: &v1.ImageSpec{Image: "other"}, Verbose: true})
	if err != nil || absent.Image != nil {
		t.Errorf("status of an absent image: %v, %v, want neither image nor error", absent, err)
	}
	list, err := d.images.ListImages(t.Context(), &v1.ListImagesRequest{Filter: &v1.ImageFilter{Image: &v1.ImageSpec{Image: "other"}}})
	if err != nil || len(list.Images) != 0 {
		t.Errorf("list of an absent image: %v, %v", list, err)
	}
	if list, err = d.images.ListImages(t.Context(), &v1.ListImagesRequest{}); err != nil || len(list.Images) != 1 {
		t.Errorf("list: %v, %v", list, err)
	}
	if _, err = d.images.RemoveImage(t.Context(), &v1.RemoveImageRequest{Image: &v1.ImageSpec{Image: "x"}}); err != nil {
		t.Error(err)
	}
	fs, err := d.images.ImageFsInfo(t.Context(), &v1.ImageFsInfoRequest{})
	if err != nil || fs.ImageFilesystems[0].FsId.Mountpoint != "/var/lib/berth" || fs.ImageFilesystems[0].UsedBytes.Value != 4096 {
		t.Errorf("file system: %v, %v", fs, err)
	}
}

// kubelet sends an empty AuthConfig for "no credentials".
func TestDecodeAuth(t *testing.T) {
	for _, in := range []*v1.AuthConfig{nil, {}, {ServerAddress: "registry"}} {
		if got := decodeAuth(in); got != nil {
			t.Errorf("%v: %+v, want anonymous", in, got)
		}
	}
	for _, in := range []*v1.AuthConfig{{Username: "u"}, {Password: "p"}, {Auth: "a"}, {IdentityToken: "i"}, {RegistryToken: "r"}} {
		if decodeAuth(in) == nil {
			t.Errorf("%v: anonymous", in)
		}
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

func TestUnservedMethods(t *testing.T) {
	_, err := open(t, &fakeRooms{}).Attach(t.Context(), &v1.AttachRequest{ContainerId: "c"})
	wantCode(t, "attach", err, codes.Unimplemented)
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

func TestImport(t *testing.T) {
	d := open(t, &fakeRooms{images: []*imagestore.Image{{ID: "sha256:abc", Tags: []string{"naïve:1"}}}})
	for _, size := range []int{0, 1, importPiece - 1, importPiece, 3*importPiece + 5} {
		archive := bytes.Repeat([]byte("berth"), size/5+1)[:size]
		got, err := ImportImage(t.Context(), d.conn, bytes.NewReader(archive), "naïve:1")
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if len(got) != 1 || got[0].Id != "sha256:abc" || !bytes.Equal(d.rooms.imported, archive) {
			t.Errorf("%d bytes: %d arrived, answer %v", size, len(d.rooms.imported), got)
		}
	}
	if last := d.rooms.calls[len(d.rooms.calls)-1]; !reflect.DeepEqual(last, []any{"Import", "naïve:1"}) {
		t.Errorf("asked %v", last)
	}
}

// An archive that can't be read ends the import on both sides, and the store sees
// no end of it that looks regular.
func TestImportOfABrokenFile(t *testing.T) {
	d := open(t, &fakeRooms{})
	broken := errors.New("disk on fire")
	_, err := ImportImage(t.Context(), d.conn, io.MultiReader(strings.NewReader("start"), errReader{broken}), "")
	if !errors.Is(err, broken) {
		t.Errorf("%v, want the reader's error", err)
	}
	d.server.Stop(t.Context()) // waits for the server's side
	if d.rooms.imported != nil && len(d.log.AllEntries()) == 0 {
		t.Error("the store took half an archive for a whole one")
	}
	for _, e := range d.log.AllEntries() {
		if e.Data["error"] == nil {
			t.Error("the server's side ended well")
		}
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

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
