package cri

import (
	"context"
	"time"

	"github.com/berth-runtime/berth/sandbox"
	"google.golang.org/grpc"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Stats is what the door asks of measurements. The lists leave out what doesn't run; of one that doesn't run, asked for by its id, the
// error is sandbox.ErrState.
type Stats interface {
	ContainerStats(id string) (*sandbox.ContainerStats, error)
	ListContainerStats(sandbox.ContainerFilter) []*sandbox.ContainerStats
	PodStats(id string) (*sandbox.PodStats, error)
	ListPodStats(sandbox.PodStatsFilter) []*sandbox.PodStats
	Metrics() []*sandbox.PodMetrics
	FilesystemStats() (*sandbox.FilesystemStats, error)
}

// statsCalls are those about what is used.
type statsCalls struct {
	stats Stats
	now   func() time.Time
}

func (s *statsCalls) ContainerStats(_ context.Context, req *v1.ContainerStatsRequest) (*v1.ContainerStatsResponse, error) {
	if req.ContainerId == "" {
		return nil, missing("container_id")
	}
	stats, err := s.stats.ContainerStats(req.ContainerId)
	if err != nil {
		return nil, err
	}
	return &v1.ContainerStatsResponse{Stats: encodeContainerStats(stats)}, nil
}

func (s *statsCalls) ListContainerStats(_ context.Context, req *v1.ListContainerStatsRequest) (*v1.ListContainerStatsResponse, error) {
	return &v1.ListContainerStatsResponse{Stats: s.listContainerStats(req.Filter)}, nil
}

func (s *statsCalls) StreamContainerStats(req *v1.StreamContainerStatsRequest, stream grpc.ServerStreamingServer[v1.StreamContainerStatsResponse]) error {
	return sendLists(s.listContainerStats(req.Filter), func(part []*v1.ContainerStats) error {
		return stream.Send(&v1.StreamContainerStatsResponse{ContainerStats: part})
	})
}

func (s *statsCalls) listContainerStats(in *v1.ContainerStatsFilter) []*v1.ContainerStats {
	list := s.stats.ListContainerStats(sandbox.ContainerFilter{ID: in.GetId(), PodID: in.GetPodSandboxId(), Labels: in.GetLabelSelector()})
	out := make([]*v1.ContainerStats, 0, len(list))
	for _, c := range list {
		out = append(out, encodeContainerStats(c))
	}
	return out
}

// PodSandboxStats refuses the empty id: kubelet asks for it at its start, and takes Unimplemented alone for a runtime that has no
// statistics of pods (cmd/kubelet/app/server.go).
func (s *statsCalls) PodSandboxStats(_ context.Context, req *v1.PodSandboxStatsRequest) (*v1.PodSandboxStatsResponse, error) {
	if req.PodSandboxId == "" {
		return nil, missing("pod_sandbox_id")
	}
	stats, err := s.stats.PodStats(req.PodSandboxId)
	if err != nil {
		return nil, err
	}
	return &v1.PodSandboxStatsResponse{Stats: encodePodStats(stats)}, nil
}

func (s *statsCalls) ListPodSandboxStats(_ context.Context, req *v1.ListPodSandboxStatsRequest) (*v1.ListPodSandboxStatsResponse, error) {
	return &v1.ListPodSandboxStatsResponse{Stats: s.listPodStats(req.Filter)}, nil
}

func (s *statsCalls) StreamPodSandboxStats(req *v1.StreamPodSandboxStatsRequest, stream grpc.ServerStreamingServer[v1.StreamPodSandboxStatsResponse]) error {
	return sendLists(s.listPodStats(req.Filter), func(part []*v1.PodSandboxStats) error {
		return stream.Send(&v1.StreamPodSandboxStatsResponse{PodSandboxStats: part})
	})
}

func (s *statsCalls) listPodStats(in *v1.PodSandboxStatsFilter) []*v1.PodSandboxStats {
	list := s.stats.ListPodStats(sandbox.PodStatsFilter{ID: in.GetId(), Labels: in.GetLabelSelector()})
	out := make([]*v1.PodSandboxStats, 0, len(list))
	for _, p := range list {
		out = append(out, encodePodStats(p))
	}
	return out
}

// ListMetricDescriptors never changes: kubelet asks once.
func (s *statsCalls) ListMetricDescriptors(context.Context, *v1.ListMetricDescriptorsRequest) (*v1.ListMetricDescriptorsResponse, error) {
	return &v1.ListMetricDescriptorsResponse{Descriptors: metricDescriptors()}, nil
}

func (s *statsCalls) ListPodSandboxMetrics(context.Context, *v1.ListPodSandboxMetricsRequest) (*v1.ListPodSandboxMetricsResponse, error) {
	metrics, err := s.metrics()
	return &v1.ListPodSandboxMetricsResponse{PodMetrics: metrics}, err
}

func (s *statsCalls) StreamPodSandboxMetrics(_ *v1.StreamPodSandboxMetricsRequest, stream grpc.ServerStreamingServer[v1.StreamPodSandboxMetricsResponse]) error {
	metrics, err := s.metrics()
	if err != nil {
		return err
	}
	return sendLists(metrics, func(part []*v1.PodSandboxMetrics) error {
		return stream.Send(&v1.StreamPodSandboxMetricsResponse{PodSandboxMetrics: part})
	})
}

func (s *statsCalls) metrics() ([]*v1.PodSandboxMetrics, error) {
	began := s.now()
	disk, err := s.stats.FilesystemStats()
	if err != nil {
		return nil, err
	}
	return encodeMetrics(s.stats.Metrics(), disk, began), nil
}
