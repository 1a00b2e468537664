package cri

import (
	"context"
	"slices"
	"time"

	"github.com/berth-runtime/berth/sandbox"
	"github.com/berth-runtime/berth/sandbox/spec"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Pods is what the door asks of pod sandboxes. Stop and remove succeed for an
// unknown id; an id may be cut short. Pod shows all of one moment. Events ends with
// ctx, with the first error of f, or with sandbox.ErrLagging.
type Pods interface {
	RunPod(ctx context.Context, pod *spec.Pod) (id string, err error)
	// UpdatePod records what is not nil.
	UpdatePod(ctx context.Context, id string, overhead, resources *spec.Resources) error
	StopPod(ctx context.Context, id string) error
	RemovePod(ctx context.Context, id string) error
	Pod(id string) (*sandbox.PodInfo, []*sandbox.ContainerInfo, error)
	PodDetails(id string) (*sandbox.PodDetails, error)
	Pods(sandbox.PodFilter) []*sandbox.PodInfo
	Events(ctx context.Context, f func(*sandbox.Event) error) error
	ReadyPod(id string) (full string, err error) // sandbox.ErrState when it is not ready
}

// podCalls are those about pods.
type podCalls struct {
	cfg    Config
	pods   Pods
	ending context.Context // ends when the server is being stopped
}

func (s *podCalls) RunPodSandbox(ctx context.Context, req *v1.RunPodSandboxRequest) (*v1.RunPodSandboxResponse, error) {
	if err := s.cfg.Handlers.check("runtime_handler", req.RuntimeHandler); err != nil {
		return nil, err
	}
	pod, err := decodePod(req.Config, req.RuntimeHandler)
	if err != nil {
		return nil, err
	}
	id, err := s.pods.RunPod(ctx, pod)
	if err != nil {
		return nil, err
	}
	return &v1.RunPodSandboxResponse{PodSandboxId: id}, nil
}

// UpdatePodSandboxResources takes note. The pod's cgroup is kubelet's, which calls this before it changes
// that, and again with the old values when that fails.
func (s *podCalls) UpdatePodSandboxResources(ctx context.Context, req *v1.UpdatePodSandboxResourcesRequest) (*v1.UpdatePodSandboxResourcesResponse, error) {
	if req.PodSandboxId == "" {
		return nil, missing("pod_sandbox_id")
	}
	if err := s.pods.UpdatePod(ctx, req.PodSandboxId, decodeResources(req.Overhead), decodeResources(req.Resources)); err != nil {
		return nil, err
	}
	return &v1.UpdatePodSandboxResourcesResponse{}, nil
}

func (s *podCalls) StopPodSandbox(ctx context.Context, req *v1.StopPodSandboxRequest) (*v1.StopPodSandboxResponse, error) {
	if req.PodSandboxId == "" {
		return nil, missing("pod_sandbox_id")
	}
	if err := s.pods.StopPod(ctx, req.PodSandboxId); err != nil {
		return nil, err
	}
	return &v1.StopPodSandboxResponse{}, nil
}

func (s *podCalls) RemovePodSandbox(ctx context.Context, req *v1.RemovePodSandboxRequest) (*v1.RemovePodSandboxResponse, error) {
	if req.PodSandboxId == "" {
		return nil, missing("pod_sandbox_id")
	}
	if err := s.pods.RemovePod(ctx, req.PodSandboxId); err != nil {
		return nil, err
	}
	return &v1.RemovePodSandboxResponse{}, nil
}

// PodSandboxStatus gives the pod and its containers, all of one moment, the newest first: kubelet takes
// the first of a name for the one that counts. It has the time of that moment only where it is asked for: see APIConfig.
func (s *podCalls) PodSandboxStatus(_ context.Context, req *v1.PodSandboxStatusRequest) (*v1.PodSandboxStatusResponse, error) {
	if req.PodSandboxId == "" {
		return nil, missing("pod_sandbox_id")
	}
	begin := time.Now() // the moment is no earlier
	pod, containers, err := s.pods.Pod(req.PodSandboxId)
	if err != nil {
		return nil, err
	}
	out := &v1.PodSandboxStatusResponse{Status: encodePodStatus(pod)}
	if s.cfg.API.PodStatusTimestamp {
		out.Timestamp = begin.UnixNano()
	}
	for _, c := range slices.Backward(containers) {
		out.ContainersStatuses = append(out.ContainersStatuses, encodeContainerStatus(c))
	}
	if !req.Verbose {
		return out, nil
	}
	details, err := s.pods.PodDetails(pod.ID)
	if err != nil {
		return nil, err
	}
	out.Info, err = encodeInfo(map[string]any{"info": encodePodDetails(pod, details)})
	return out, err
}

var podStates = map[v1.PodSandboxState]sandbox.PodState{
	v1.PodSandboxState_SANDBOX_READY:    sandbox.PodReady,
	v1.PodSandboxState_SANDBOX_NOTREADY: sandbox.PodNotReady,
}

func decodePodFilter(in *v1.PodSandboxFilter) (sandbox.PodFilter, error) {
	out := sandbox.PodFilter{ID: in.GetId(), Labels: in.GetLabelSelector()}
	if in.GetState() == nil {
		return out, nil
	}
	state, err := decodeEnum("filter.state.state", in.State.State, podStates)
	out.State = &state
	return out, err
}
