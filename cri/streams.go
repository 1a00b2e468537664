package cri

import (
	"context"
	"strconv"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/cri/stream"
)

// Streams gives the URLs of sessions (*stream.Server).
type Streams interface {
	Exec(container string, command []string, w stream.Wanted) (url string, err error)
	Attach(container string, w stream.Wanted) (url string, err error)
	PortForward(pod, uid string, ports []int32) (url string, err error)
}

// streamCalls give the addresses of streams.
type streamCalls struct {
	pods       Pods
	containers Containers
	streams    Streams
}

// Exec returns a URL at which a command can be run in a container. That the
// container runs is looked at now, for the client to be told in time, and again when
// it comes.
func (s *streamCalls) Exec(_ context.Context, req *v1.ExecRequest) (*v1.ExecResponse, error) {
	wanted, err := decodeWanted(req)
	if err != nil {
		return nil, err
	}
	if err := checkCommand(req.Cmd); err != nil {
		return nil, err
	}
	id, err := s.containers.RunningContainer(req.ContainerId)
	if err != nil {
		return nil, err
	}
	url, err := s.streams.Exec(id, req.Cmd, wanted)
	if err != nil {
		return nil, err
	}
	return &v1.ExecResponse{Url: url}, nil
}

// Attach returns a URL at which a container's own process can be spoken to.
func (s *streamCalls) Attach(_ context.Context, req *v1.AttachRequest) (*v1.AttachResponse, error) {
	wanted, err := decodeWanted(req)
	if err != nil {
		return nil, err
	}
	id, err := s.containers.RunningContainer(req.ContainerId)
	if err != nil {
		return nil, err
	}
	url, err := s.streams.Attach(id, wanted)
	if err != nil {
		return nil, err
	}
	return &v1.AttachResponse{Url: url}, nil
}

// PortForward returns a URL at which a pod's ports can be connected to. The ports
// are for WebSocket clients; others name theirs later.
func (s *streamCalls) PortForward(_ context.Context, req *v1.PortForwardRequest) (*v1.PortForwardResponse, error) {
	if req.PodSandboxId == "" {
		return nil, missing("pod_sandbox_id")
	}
	for _, port := range req.Port {
		if port < 1 || port > 65535 {
			return nil, invalid("port", strconv.Itoa(int(port)), "must be between 1 and 65535")
		}
	}
	id, err := s.pods.ReadyPod(req.PodSandboxId)
	if err != nil {
		return nil, err
	}
	pod, _, err := s.pods.Pod(id)
	if err != nil {
		return nil, err
	}
	url, err := s.streams.PortForward(id, pod.Config.Metadata.UID, req.Port)
	if err != nil {
		return nil, err
	}
	return &v1.PortForwardResponse{Url: url}, nil
}

// ReopenContainerLog is called when the log has been renamed.
func (s *containerCalls) ReopenContainerLog(ctx context.Context, req *v1.ReopenContainerLogRequest) (*v1.ReopenContainerLogResponse, error) {
	if req.ContainerId == "" {
		return nil, missing("container_id")
	}
	if err := s.containers.ReopenContainerLog(ctx, req.ContainerId); err != nil {
		return nil, err
	}
	return &v1.ReopenContainerLogResponse{}, nil
}

// wanting is what Exec and Attach have in common.
type wanting interface {
	GetContainerId() string
	GetStdin() bool
	GetStdout() bool
	GetStderr() bool
	GetTty() bool
}

// decodeWanted reads which streams a client asks for: one at least, and of a
// terminal no standard error, as it has but one stream (api.proto).
func decodeWanted(req wanting) (stream.Wanted, error) {
	out := stream.Wanted{Stdin: req.GetStdin(), Stdout: req.GetStdout(), Stderr: req.GetStderr(), TTY: req.GetTty()}
	switch {
	case req.GetContainerId() == "":
		return out, missing("container_id")
	case out.TTY && out.Stderr:
		return out, invalid("stderr", "true", "can't be had together with tty")
	case !out.Stdin && !out.Stdout && !out.Stderr:
		return out, invalid("stdout", "false", "must be set, or stdin or stderr")
	}
	return out, nil
}
