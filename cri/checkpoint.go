package cri

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/berth-runtime/berth/sandbox"
	"github.com/berth-runtime/berth/sandbox/spec"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Checkpoints is what the door asks about checkpoints. With timeout 0 a checkpoint has CRI's default time.
type Checkpoints interface {
	CheckpointContainer(ctx context.Context, id, location string, timeout time.Duration) error
	CheckpointPod(ctx context.Context, id, output string, containers []string) error
	// RestorePod makes a pod and containers that wait for their start.
	RestorePod(ctx context.Context, dir string, pod *spec.Pod, containers []*spec.Container) (id string, restored []sandbox.RestoredContainer, err error)
}

// checkpointCalls are those about checkpoints.
type checkpointCalls struct {
	cfg         Config
	checkpoints Checkpoints
}

// CheckpointContainer writes an archive and lets the container go on.
func (s *checkpointCalls) CheckpointContainer(ctx context.Context, req *v1.CheckpointContainerRequest) (*v1.CheckpointContainerResponse, error) {
	if req.ContainerId == "" {
		return nil, missing("container_id")
	}
	if err := absolute("location", req.Location); err != nil {
		return nil, err
	}
	if err := s.checkpoints.CheckpointContainer(ctx, req.ContainerId, req.Location, decodeSeconds(req.Timeout)); err != nil {
		return nil, err
	}
	return &v1.CheckpointContainerResponse{}, nil
}

// CheckpointPod writes archives of all containers that are named.
func (s *checkpointCalls) CheckpointPod(ctx context.Context, req *v1.CheckpointPodRequest) (*v1.CheckpointPodResponse, error) {
	if req.PodSandboxId == "" {
		return nil, missing("pod_sandbox_id")
	}
	if err := absolute("output_path", req.OutputPath); err != nil {
		return nil, err
	}
	if len(req.ContainerIds) == 0 {
		return nil, missing("container_ids")
	}
	if err := noOptions(req.Options); err != nil {
		return nil, err
	}
	if err := s.checkpoints.CheckpointPod(ctx, req.PodSandboxId, req.OutputPath, req.ContainerIds); err != nil {
		return nil, err
	}
	return &v1.CheckpointPodResponse{}, nil
}

// RestorePod makes a pod of a checkpoint, and containers that StartContainer restores.
func (s *checkpointCalls) RestorePod(ctx context.Context, req *v1.RestorePodRequest) (*v1.RestorePodResponse, error) {
	if err := absolute("checkpoint_path", req.CheckpointPath); err != nil {
		return nil, err
	}
	if err := s.cfg.Handlers.check("runtime_handler", req.RuntimeHandler); err != nil {
		return nil, err
	}
	if err := noOptions(req.Options); err != nil {
		return nil, err
	}
	pod, err := decodePod(req.Config, req.RuntimeHandler)
	if err != nil {
		return nil, err
	}
	if len(req.ContainerConfigs) == 0 {
		return nil, missing("container_configs")
	}
	containers, err := decodeList("container_configs", req.ContainerConfigs, func(_ string, in *v1.ContainerConfig) (*spec.Container, error) {
		return decodeContainer(in)
	})
	if err != nil {
		return nil, err
	}
	id, restored, err := s.checkpoints.RestorePod(ctx, req.CheckpointPath, pod, containers)
	if err != nil {
		return nil, err
	}
	out := &v1.RestorePodResponse{PodSandboxId: id}
	for _, c := range restored {
		out.RestoredContainers = append(out.RestoredContainers, &v1.RestoredContainer{Name: c.Name, ContainerId: c.ID})
	}
	return out, nil
}

func absolute(field, path string) error {
	if path == "" {
		return missing(field)
	}
	if !filepath.IsAbs(path) {
		return invalid(field, path, "must be an absolute path")
	}
	return nil
}

// noOptions: there are none that berth knows, and CRI has unknown ones refused.
func noOptions(options map[string]string) error {
	if keys := slices.Sorted(maps.Keys(options)); len(keys) > 0 {
		return invalid("options", keys[0], "is no option of this runtime")
	}
	return nil
}
