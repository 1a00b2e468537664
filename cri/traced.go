package cri

import (
	"context"
	"time"

	"google.golang.org/grpc"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/cri/trace"
	"github.com/berth-runtime/berth/sandbox"
)

// traced adds to the spans of requests what they were about, and of those that bring something up the steps of its timeline.
type traced struct {
	tracer     *trace.Tracer
	pods       Pods
	containers Containers
}

func (t *traced) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	begin := time.Now()
	resp, err := handle(ctx, req)
	if !t.tracer.Recorded(ctx) {
		return resp, err
	}
	for key, value := range about(req, resp) {
		t.tracer.Describe(ctx, key, value)
	}
	moments, began := t.timeline(req, resp, err)
	for _, m := range moments {
		// What had begun before is another's: of a try that this one joined, or that had brought it up long ago.
		if from := began.Add(m.At); !from.Before(begin) {
			t.tracer.Step(ctx, m.What, from, m.Took)
		}
	}
	return resp, err
}

// about is what a request is about.
func about(req, resp any) map[string]string {
	out := map[string]string{}
	note := func(key, value string) {
		if value != "" {
			out[key] = value
		}
	}
	for _, m := range []any{req, resp} {
		if m, ok := m.(interface{ GetPodSandboxId() string }); ok {
			note("pod.id", m.GetPodSandboxId())
		}
		if m, ok := m.(interface{ GetContainerId() string }); ok {
			note("container.id", m.GetContainerId())
		}
		if m, ok := m.(interface{ GetImage() *v1.ImageSpec }); ok {
			note("image", m.GetImage().GetImage())
		}
	}
	return out
}

// timeline is how what a request is about was brought up, and from when on; empty for requests that bring nothing up.
func (t *traced) timeline(req, resp any, failed error) ([]sandbox.Moment, time.Time) {
	switch r := req.(type) {
	case *v1.RunPodSandboxRequest:
		if run, ok := resp.(*v1.RunPodSandboxResponse); ok && failed == nil {
			if d, err := t.pods.PodDetails(run.PodSandboxId); err == nil { // otherwise it is gone again
				return d.Times["run"], d.Began["run"]
			}
		}
	case *v1.StartContainerRequest:
		if d, err := t.containers.ContainerDetails(r.ContainerId); err == nil { // otherwise there is none
			return d.Times["start"], d.Began["start"]
		}
	}
	return nil, time.Time{}
}
