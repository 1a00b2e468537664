package cri

import (
	"context"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ExecSync runs a command in a container and returns what it wrote. A command
// that ends with another code than 0 is no error; one that outlives its timeout
// is DeadlineExceeded, which kubelet's probes look for.
func (s *runtimeService) ExecSync(ctx context.Context, req *v1.ExecSyncRequest) (*v1.ExecSyncResponse, error) {
	if req.ContainerId == "" {
		return nil, missing("container_id")
	}
	if len(req.Cmd) == 0 {
		return nil, missing("cmd")
	}
	result, err := s.containers.ExecSync(ctx, req.ContainerId, req.Cmd, decodeSeconds(req.Timeout))
	if err != nil {
		return nil, err
	}
	return &v1.ExecSyncResponse{Stdout: result.Stdout, Stderr: result.Stderr, ExitCode: result.ExitCode}, nil
}
