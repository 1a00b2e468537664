package cri

import (
	"context"
	"time"

	"github.com/berth-runtime/berth/sandbox"
	"github.com/berth-runtime/berth/sandbox/spec"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Containers is what the door asks of containers. Stop and remove succeed for an
// unknown id; Container takes any unique prefix of an id. ExecSync with timeout 0
// has no limit; sandbox.ErrTimeout when it was reached.
type Containers interface {
	CreateContainer(ctx context.Context, podID string, c *spec.Container) (id string, err error)
	StartContainer(ctx context.Context, id string) error
	// UpdateContainer changes all limits that r sets, or none.
	UpdateContainer(ctx context.Context, id string, r *spec.Resources) error
	StopContainer(ctx context.Context, id string, grace time.Duration) error
	RemoveContainer(ctx context.Context, id string) error
	Container(id string) (*sandbox.ContainerInfo, error)
	ContainerDetails(id string) (*sandbox.ContainerDetails, error)
	Containers(sandbox.ContainerFilter) []*sandbox.ContainerInfo
	RunningContainer(id string) (full string, err error) // sandbox.ErrState when it does not run
	ReopenContainerLog(ctx context.Context, id string) error
	ExecSync(ctx context.Context, id string, cmd []string, timeout time.Duration) (*sandbox.ExecResult, error)
}

// containerCalls are those about containers.
type containerCalls struct{ containers Containers }

// CreateContainer ignores sandbox_config: the pod's own record has what
// RunPodSandbox was given, and CRI says that they are the same.
func (s *containerCalls) CreateContainer(ctx context.Context, req *v1.CreateContainerRequest) (*v1.CreateContainerResponse, error) {
	if req.PodSandboxId == "" {
		return nil, missing("pod_sandbox_id")
	}
	container, err := decodeContainer(req.Config)
	if err != nil {
		return nil, err
	}
	id, err := s.containers.CreateContainer(ctx, req.PodSandboxId, container)
	if err != nil {
		return nil, err
	}
	return &v1.CreateContainerResponse{ContainerId: id}, nil
}

func (s *containerCalls) StartContainer(ctx context.Context, req *v1.StartContainerRequest) (*v1.StartContainerResponse, error) {
	if req.ContainerId == "" {
		return nil, missing("container_id")
	}
	if err := s.containers.StartContainer(ctx, req.ContainerId); err != nil {
		return nil, err
	}
	return &v1.StartContainerResponse{}, nil
}

func (s *containerCalls) StopContainer(ctx context.Context, req *v1.StopContainerRequest) (*v1.StopContainerResponse, error) {
	if req.ContainerId == "" {
		return nil, missing("container_id")
	}
	if err := s.containers.StopContainer(ctx, req.ContainerId, decodeSeconds(req.Timeout)); err != nil {
		return nil, err
	}
	return &v1.StopContainerResponse{}, nil
}

func (s *containerCalls) RemoveContainer(ctx context.Context, req *v1.RemoveContainerRequest) (*v1.RemoveContainerResponse, error) {
	if req.ContainerId == "" {
		return nil, missing("container_id")
	}
	if err := s.containers.RemoveContainer(ctx, req.ContainerId); err != nil {
		return nil, err
	}
	return &v1.RemoveContainerResponse{}, nil
}

// UpdateContainerResources changes the limits that are not zero.
func (s *containerCalls) UpdateContainerResources(ctx context.Context, req *v1.UpdateContainerResourcesRequest) (*v1.UpdateContainerResourcesResponse, error) {
	if req.ContainerId == "" {
		return nil, missing("container_id")
	}
	if err := s.containers.UpdateContainer(ctx, req.ContainerId, decodeResources(req.Linux)); err != nil {
		return nil, err
	}
	return &v1.UpdateContainerResourcesResponse{}, nil
}

func (s *containerCalls) ContainerStatus(_ context.Context, req *v1.ContainerStatusRequest) (*v1.ContainerStatusResponse, error) {
	if req.ContainerId == "" {
		return nil, missing("container_id")
	}
	container, err := s.containers.Container(req.ContainerId)
	if err != nil {
		return nil, err
	}
	out := &v1.ContainerStatusResponse{Status: encodeContainerStatus(container)}
	if !req.Verbose {
		return out, nil
	}
	details, err := s.containers.ContainerDetails(container.ID)
	if err != nil {
		return nil, err
	}
	out.Info, err = encodeInfo(map[string]any{"info": encodeContainerDetails(container, details)})
	return out, err
}

var containerStates = map[v1.ContainerState]sandbox.ContainerState{
	v1.ContainerState_CONTAINER_CREATED: sandbox.ContainerCreated,
	v1.ContainerState_CONTAINER_RUNNING: sandbox.ContainerRunning,
	v1.ContainerState_CONTAINER_EXITED:  sandbox.ContainerExited,
	v1.ContainerState_CONTAINER_UNKNOWN: sandbox.ContainerUnknown,
}

func decodeContainerFilter(in *v1.ContainerFilter) (sandbox.ContainerFilter, error) {
	out := sandbox.ContainerFilter{ID: in.GetId(), PodID: in.GetPodSandboxId(), Labels: in.GetLabelSelector()}
	if in.GetState() == nil {
		return out, nil
	}
	state, err := decodeEnum("filter.state.state", in.State.State, containerStates)
	out.State = &state
	return out, err
}
