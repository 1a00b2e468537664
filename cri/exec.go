package cri

import (
	"context"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ExecSync runs a command in a container and returns what it wrote. A command
// that ends with another code than 0 is no error; one that outlives its timeout
// is DeadlineExceeded, which kubelet's probes look for.
func (s *containerCalls) ExecSync(ctx context.Context, req *v1.ExecSyncRequest) (*v1.ExecSyncResponse, error) {
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
	stdout, stderr := fit(result.Stdout, result.Stderr, maxMessage-messageRoom)
	return &v1.ExecSyncResponse{Stdout: stdout, Stderr: stderr, ExitCode: result.ExitCode}, nil
}

// messageRoom is for what a response holds beside the output: three field tags,
// two lengths and the exit code, each at most 10 bytes.
const messageRoom = 64

// fit cuts output so that both streams go into one message of size bytes: CRI
// bounds each at 16 MB, and kubelet takes messages of no more than 16 MiB. The
// shorter stream keeps up to half of it.
func fit(stdout, stderr []byte, size int) (out, err []byte) {
	if len(stdout)+len(stderr) <= size {
		return stdout, stderr
	}
	keep := max(size-len(stderr), size/2)
	stdout = stdout[:min(len(stdout), keep)]
	return stdout, stderr[:min(len(stderr), size-len(stdout))]
}
