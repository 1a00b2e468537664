package cri

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"testing"
	"time"

	containers "github.com/containerd/containerd/api/services/containers/v1"
	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	version "github.com/containerd/containerd/api/services/version/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/opencontainers/runtime-spec/specs-go"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/berth-runtime/berth/sandbox"
)

type fakeWatch map[string]*sandbox.Watched

func (f fakeWatch) Watched(id string) (*sandbox.Watched, error) {
	if w := f[id]; w != nil {
		return w, nil
	}
	return nil, fmt.Errorf("%s: %w", id, sandbox.ErrNotFound)
}

// cadvisorDoor is what cAdvisor connects to.
func cadvisorDoor(t *testing.T, watch Watch) *grpc.ClientConn {
	t.Helper()
	log, _ := logtest.NewNullLogger()
	server := NewCadvisorServer(watch, log)
	listener := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }() // ends with Stop
	conn, err := grpc.NewClient("passthrough:berth", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		server.Stop(t.Context())
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return conn
}

func TestCadvisor(t *testing.T) {
	created := time.Unix(1700000000, 5)
	conn := cadvisorDoor(t, fakeWatch{
		"running": {ID: "running", Labels: map[string]string{"k": "v"}, Image: "busybox", CreatedAt: created, PID: 77},
		"created": {ID: "created"},
		"exited":  {ID: "exited", Exited: true, ExitCode: 3},
	})
	if v, err := version.NewVersionClient(conn).Version(t.Context(), &emptypb.Empty{}); err != nil || v.Version == "" {
		t.Errorf("version %v, %v", v, err)
	}
	got, err := containers.NewContainersClient(conn).Get(t.Context(), &containers.GetContainerRequest{ID: "running"})
	if err != nil {
		t.Fatal(err)
	}
	c := got.Container
	if c.ID != "running" || c.Labels["k"] != "v" || c.Image != "busybox" || !c.CreatedAt.AsTime().Equal(created) {
		t.Errorf("container %v", c)
	}
	// cAdvisor reads process.env without looking whether there is a process.
	var spec specs.Spec
	if err := json.Unmarshal(c.Spec.Value, &spec); err != nil || spec.Process == nil || len(spec.Process.Env) != 0 {
		t.Errorf("spec %s, %v", c.Spec.Value, err)
	}
	client := tasks.NewTasksClient(conn)
	running, err := client.Get(t.Context(), &tasks.GetRequest{ContainerID: "running"})
	if err != nil || running.Process.Pid != 77 || running.Process.Status != task.Status_RUNNING {
		t.Errorf("running: %v, %v", running, err)
	}
	exited, err := client.Get(t.Context(), &tasks.GetRequest{ContainerID: "exited"})
	if err != nil || exited.Process.ExitStatus != 3 || exited.Process.Status != task.Status_STOPPED {
		t.Errorf("exited: %v, %v", exited, err)
	}
	// cAdvisor tries these again.
	_, err = client.Get(t.Context(), &tasks.GetRequest{ContainerID: "created"})
	wantCode(t, "the task of what is not started", err, codes.NotFound)
	_, err = client.Get(t.Context(), &tasks.GetRequest{ContainerID: "none"})
	wantCode(t, "the task of nothing", err, codes.NotFound)
	_, err = containers.NewContainersClient(conn).Get(t.Context(), &containers.GetContainerRequest{ID: "none"})
	wantCode(t, "no container", err, codes.NotFound)
	_, err = containers.NewContainersClient(conn).Delete(t.Context(), &containers.DeleteContainerRequest{ID: "running"})
	wantCode(t, "what would change something", err, codes.Unimplemented)
	_, err = client.Kill(t.Context(), &tasks.KillRequest{ContainerID: "running"})
	wantCode(t, "what would change something", err, codes.Unimplemented)
}

func TestCadvisorConfig(t *testing.T) {
	for socket, good := range map[string]bool{"": true, "/run/containerd/containerd.sock": true, "containerd.sock": false} {
		if err := (CadvisorConfig{Socket: socket}).Validate(); (err == nil) != good {
			t.Errorf("socket %q: %v", socket, err)
		}
	}
}
