package cri

import (
	"reflect"
	"testing"
	"time"

	"github.com/berth-runtime/berth/cri/stream"
	"github.com/berth-runtime/berth/sandbox"
	"github.com/berth-runtime/berth/sandbox/spec"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// fakeStreams notes what URLs are asked for.
type fakeStreams struct {
	calls []any
	err   error
}

func (f *fakeStreams) Exec(container string, command []string, w stream.Wanted) (string, error) {
	f.calls = append(f.calls, []any{"exec", container, command, w})
	return "http://exec", f.err
}

func (f *fakeStreams) Attach(container string, w stream.Wanted) (string, error) {
	f.calls = append(f.calls, []any{"attach", container, w})
	return "http://attach", f.err
}

func (f *fakeStreams) PortForward(pod, uid string, ports []int32) (string, error) {
	f.calls = append(f.calls, []any{"portforward", pod, uid, ports})
	return "http://portforward", f.err
}

func TestStreamURLs(t *testing.T) {
	rooms, streams := &fakeRooms{pods: []*sandbox.PodInfo{{ID: "full-p", Config: &spec.Pod{Metadata: spec.PodMetadata{UID: "u1"}}}}}, &fakeStreams{}
	s := newRuntimeService(Config{}, Parts{Pods: rooms, Containers: rooms, Streams: streams}, time.Now, t.Context())
	exec, err := s.Exec(t.Context(), &v1.ExecRequest{ContainerId: "c", Cmd: []string{"sh"}, Tty: true, Stdin: true, Stdout: true})
	if err != nil || exec.Url != "http://exec" {
		t.Errorf("%v, %v", exec, err)
	}
	attach, err := s.Attach(t.Context(), &v1.AttachRequest{ContainerId: "c", Stderr: true})
	if err != nil || attach.Url != "http://attach" {
		t.Errorf("%v, %v", attach, err)
	}
	forward, err := s.PortForward(t.Context(), &v1.PortForwardRequest{PodSandboxId: "p", Port: []int32{80}})
	if err != nil || forward.Url != "http://portforward" {
		t.Errorf("%v, %v", forward, err)
	}
	want := []any{
		[]any{"exec", "full-c", []string{"sh"}, stream.Wanted{TTY: true, Stdin: true, Stdout: true}},
		[]any{"attach", "full-c", stream.Wanted{Stderr: true}},
		[]any{"portforward", "full-p", "u1", []int32{80}},
	}
	if !reflect.DeepEqual(streams.calls, want) {
		t.Errorf("calls %v", streams.calls)
	}
	streams.err = stream.ErrBusy
	if _, err := s.Exec(t.Context(), &v1.ExecRequest{ContainerId: "c", Cmd: []string{"sh"}, Stdout: true}); status.Code(toStatus(err)) != codes.ResourceExhausted {
		t.Errorf("busy: %v", err)
	}
}

func TestStreamsRefused(t *testing.T) {
	rooms, streams := &fakeRooms{}, &fakeStreams{}
	s := newRuntimeService(Config{}, Parts{Pods: rooms, Containers: rooms, Streams: streams}, time.Now, t.Context())
	for name, call := range map[string]func() error{
		"exec, no container": func() error {
			_, err := s.Exec(t.Context(), &v1.ExecRequest{Cmd: []string{"sh"}, Stdout: true})
			return err
		},
		"exec, no command": func() error {
			_, err := s.Exec(t.Context(), &v1.ExecRequest{ContainerId: "c", Stdout: true})
			return err
		},
		"exec, no streams": func() error {
			_, err := s.Exec(t.Context(), &v1.ExecRequest{ContainerId: "c", Cmd: []string{"sh"}})
			return err
		},
		"attach, no container": func() error { _, err := s.Attach(t.Context(), &v1.AttachRequest{Stdout: true}); return err },
		"attach, tty and stderr": func() error {
			_, err := s.Attach(t.Context(), &v1.AttachRequest{ContainerId: "c", Tty: true, Stderr: true})
			return err
		},
		"port-forward, no pod": func() error { _, err := s.PortForward(t.Context(), &v1.PortForwardRequest{}); return err },
		"port-forward, port 0": func() error {
			_, err := s.PortForward(t.Context(), &v1.PortForwardRequest{PodSandboxId: "p", Port: []int32{0}})
			return err
		},
		"reopen log, no container": func() error { _, err := s.ReopenContainerLog(t.Context(), &v1.ReopenContainerLogRequest{}); return err },
	} {
		if got := status.Code(toStatus(call())); got != codes.InvalidArgument {
			t.Errorf("%s: %v", name, got)
		}
	}
	rooms.err = sandbox.ErrState
	_, err := s.Exec(t.Context(), &v1.ExecRequest{ContainerId: "c", Cmd: []string{"sh"}, Stdout: true})
	if got := status.Code(toStatus(err)); got != codes.FailedPrecondition {
		t.Errorf("a container that does not run: %v", got)
	}
	_, err = s.ReopenContainerLog(t.Context(), &v1.ReopenContainerLogRequest{ContainerId: "c"})
	if got := status.Code(toStatus(err)); got != codes.FailedPrecondition {
		t.Errorf("log of one that does not run: %v", got)
	}
	if len(streams.calls) != 0 {
		t.Errorf("URLs were given: %v", streams.calls)
	}
}
