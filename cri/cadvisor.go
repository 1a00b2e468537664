package cri

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	containers "github.com/containerd/containerd/api/services/containers/v1"
	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	version "github.com/containerd/containerd/api/services/version/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berth-runtime/berth/sandbox"
)

// CadvisorConfig is the [cadvisor] table of the configuration file.
type CadvisorConfig struct {
	// Socket is where cAdvisor asks; "": nothing is served.
	Socket string `toml:"socket"`
}

// Validate returns every mistake in c, each named by its key.
func (c CadvisorConfig) Validate() error {
	if c.Socket != "" && !filepath.IsAbs(c.Socket) {
		return fmt.Errorf("socket %q: must be an absolute path", c.Socket)
	}
	return nil
}

// Watch is what the door for cAdvisor asks: whose a cgroup is, by the id in its name. sandbox.ErrNotFound: nobody's here.
type Watch interface {
	Watched(id string) (*sandbox.Watched, error)
}

// NewCadvisorServer serves what kubelet's cAdvisor asks of a runtime, which is three methods of containerd's API
// (google/cadvisor, container/containerd): it knows containerd and CRI-O alone. Nothing else of that API is there, and
// nothing can be changed by it.
func NewCadvisorServer(watch Watch, log logrus.FieldLogger) *Server {
	door := &interceptor{log: log}
	s := grpc.NewServer(grpc.UnaryInterceptor(door.unary), grpc.StreamInterceptor(door.stream))
	containers.RegisterContainersServer(s, &watchedContainers{watch: watch})
	tasks.RegisterTasksServer(s, &watchedTasks{watch: watch})
	version.RegisterVersionServer(s, &watchedVersion{})
	return &Server{grpc: s, end: func() {}}
}

type watchedContainers struct {
	containers.UnimplementedContainersServer
	watch Watch
}

// bareSpec is all that cAdvisor decodes of a container's: it looks for variables of the environment in it, and gets none.
var bareSpec = specs.Spec{Version: specs.Version, Process: &specs.Process{}}

func (s *watchedContainers) Get(_ context.Context, req *containers.GetContainerRequest) (*containers.GetContainerResponse, error) {
	w, err := s.watch.Watched(req.ID)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(bareSpec)
	if err != nil {
		return nil, fmt.Errorf("encode spec: %w", err)
	}
	return &containers.GetContainerResponse{Container: &containers.Container{
		ID: w.ID, Labels: w.Labels, Image: w.Image, CreatedAt: timestamppb.New(w.CreatedAt), Runtime: &containers.Container_Runtime{Name: RuntimeName},
		Spec: &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Spec", Value: text},
	}}, nil
}

type watchedTasks struct {
	tasks.UnimplementedTasksServer
	watch Watch
}

// errNoTask: there is no process yet. cAdvisor asks again, some times.
var errNoTask = errors.New("it does not run yet")

func (s *watchedTasks) Get(_ context.Context, req *tasks.GetRequest) (*tasks.GetResponse, error) {
	w, err := s.watch.Watched(req.ContainerID)
	if err != nil {
		return nil, err
	}
	out := &task.Process{ID: w.ID, ContainerID: w.ID, Pid: uint32(w.PID), Status: task.Status_RUNNING}
	switch {
	case w.Exited:
		out.Status, out.ExitStatus = task.Status_STOPPED, uint32(w.ExitCode)
	case w.PID == 0:
		return nil, fmt.Errorf("%s: %w: %w", w.ID, errNoTask, sandbox.ErrNotFound)
	}
	return &tasks.GetResponse{Process: out}, nil
}

type watchedVersion struct {
	version.UnimplementedVersionServer
}

// Version says who answers.
func (*watchedVersion) Version(context.Context, *emptypb.Empty) (*version.VersionResponse, error) {
	return &version.VersionResponse{Version: RuntimeName}, nil
}
