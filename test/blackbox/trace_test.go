package blackbox

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

// spans is a collector of traces.
type spans struct {
	collector.UnimplementedTraceServiceServer
	mu  sync.Mutex
	all []*otlp.Span
}

func (s *spans) Export(_ context.Context, r *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, resource := range r.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			s.all = append(s.all, scope.Spans...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// of are the spans of a trace, by name.
func (s *spans) of(trace string) map[string]*otlp.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]*otlp.Span{}
	for _, span := range s.all {
		if fmt.Sprintf("%x", span.TraceId) == trace {
			out[span.Name] = span
		}
	}
	return out
}

// collect starts a collector, which goes away with the test, or before.
func collect(t *testing.T) (got *spans, address net.Addr, away func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	got, server := &spans{}, grpc.NewServer()
	collector.RegisterTraceServiceServer(server, got)
	go server.Serve(l) // ends with Stop
	t.Cleanup(server.Stop)
	return got, l.Addr(), server.Stop
}

// stepsOf counts a request's steps, which are to lie within it.
func stepsOf(t *testing.T, all map[string]*otlp.Span, request *otlp.Span) (steps int) {
	t.Helper()
	for _, span := range all {
		if string(span.ParentSpanId) != string(request.SpanId) {
			continue
		}
		steps++
		if span.StartTimeUnixNano < request.StartTimeUnixNano || span.EndTimeUnixNano > request.EndTimeUnixNano {
			t.Errorf("step %s is not within %s", span.Name, request.Name)
		}
	}
	return steps
}

// TestRootTraces: a request that brings kubelet's trace is a span of it, with the steps of what it brought up; one of a
// trace that isn't recorded is none.
func TestRootTraces(t *testing.T) {
	got, address, away := collect(t)
	d := harness.Start(t, harness.Options{
		Registry: bed.Server, Pull: []string{images.Busybox}, Flags: []string{"--log-level=debug"},
		Config: fmt.Sprintf("[tracing]\nendpoint = %q\n", address),
	})
	const trace, parent, quiet = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "0af7651916cd43dd8448eb211c80319d"
	const again = "0af7651916cd43dd8448eb211c80319e"
	from := func(trace, flags string) context.Context {
		return metadata.AppendToOutgoingContext(d.Context(), "traceparent", "00-"+trace+"-"+parent+"-"+flags)
	}
	config := harness.OnHostNetwork(d.PodConfig("traced"))
	pod, err := d.Runtime.RunPodSandbox(from(trace, "01"), &cri.RunPodSandboxRequest{Config: config})
	check(t, err)
	c, err := d.Runtime.CreateContainer(from(trace, "01"), &cri.CreateContainerRequest{PodSandboxId: pod.PodSandboxId, Config: harness.ContainerConfig("c", harness.Sleep), SandboxConfig: config})
	check(t, err)
	_, err = d.Runtime.StartContainer(from(trace, "01"), &cri.StartContainerRequest{ContainerId: c.ContainerId})
	check(t, err)
	_, err = d.Runtime.RunPodSandbox(from(again, "01"), &cri.RunPodSandboxRequest{Config: config}) // is there
	check(t, err)
	_, err = d.Runtime.StartContainer(from(again, "01"), &cri.StartContainerRequest{ContainerId: c.ContainerId})
	wantError(t, err, codes.FailedPrecondition, "running")
	_, err = d.Images.PullImage(from(trace, "01"), &cri.PullImageRequest{Image: &cri.ImageSpec{Image: images.Nginx}})
	check(t, err)
	_, err = d.Runtime.ContainerStatus(from(trace, "01"), &cri.ContainerStatusRequest{ContainerId: "unknown"})
	if err == nil {
		t.Error("there is a container named unknown")
	}
	_, err = d.Runtime.Version(from(quiet, "00"), &cri.VersionRequest{})
	check(t, err)
	_, err = d.Runtime.Version(d.Context(), &cri.VersionRequest{}) // of no trace, and the rate is 0
	check(t, err)
	d.Stop() // what is left is sent

	all := got.of(trace)
	for _, method := range []string{"RunPodSandbox", "CreateContainer", "StartContainer", "ContainerStatus"} {
		span := all["runtime.v1.RuntimeService/"+method]
		if span == nil {
			t.Fatalf("no span of %s among %d", method, len(all))
		}
		want(t, "parent of "+method, fmt.Sprintf("%x", span.ParentSpanId), parent)
	}
	start := all["runtime.v1.RuntimeService/StartContainer"]
	if text := fmt.Sprint(start.Attributes); !strings.Contains(text, c.ContainerId) {
		t.Errorf("the start's span doesn't name the container: %s", text)
	}
	if steps := stepsOf(t, all, start); steps < 10 || all["fork"] == nil {
		t.Errorf("%d steps of the start are there", steps)
	}
	if repeated := got.of(again); len(repeated) != 2 {
		t.Errorf("two requests that found their work done have steps: %v", slices.Collect(maps.Keys(repeated)))
	}
	for _, span := range got.all { // the daemon has ended
		if id := fmt.Sprintf("%x", span.TraceId); id != trace && id != again {
			t.Errorf("%s is of trace %s", span.Name, id)
		}
	}
	pull, requests := all["runtime.v1.ImageService/PullImage"], 0
	for _, span := range got.all {
		if span.Kind == otlp.Span_SPAN_KIND_CLIENT && pull != nil {
			requests++
		}
	}
	if requests < 3 { // manifest, configuration and layer at least
		t.Errorf("%d requests to the registry are spans of the pull %v", requests, pull)
	}
	log, err := os.ReadFile(d.LogFile)
	check(t, err)
	if !strings.Contains(string(log), "trace="+trace) {
		t.Error("no line of the log names the trace")
	}
	away() // nothing waits for a collector
	d.Restart()
	_, err = d.Runtime.Version(from(trace, "01"), &cri.VersionRequest{})
	check(t, err)
}
