package blackbox

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

// TestRootListsAsStreams: each list that comes as a stream has what the list of the same name has, each thing once, and ends with
// io.EOF; of nothing there is no message.
func TestRootListsAsStreams(t *testing.T) {
	d := start(t)
	var pods, containers []string
	for i := range 3 {
		config := harness.OnHostNetwork(d.PodConfig(fmt.Sprint("p", i)))
		config.Labels = map[string]string{"odd": fmt.Sprint(i % 2)}
		p := d.RunPod(config)
		c := p.Run(harness.ContainerConfig("c", harness.Sleep))
		pods, containers = append(pods, p.ID), append(containers, c.ID)
	}
	ctx := d.Context()
	want(t, "pods", chunks(t, call(d.Runtime.StreamPodSandboxes(ctx, &cri.StreamPodSandboxesRequest{})), func(r *cri.StreamPodSandboxesResponse) (ids []string) {
		for _, p := range r.PodSandboxes {
			ids = append(ids, p.Id)
		}
		return ids
	}), fmt.Sprint(pods))
	odd := &cri.PodSandboxFilter{LabelSelector: map[string]string{"odd": "1"}}
	want(t, "pods with a label", chunks(t, call(d.Runtime.StreamPodSandboxes(ctx, &cri.StreamPodSandboxesRequest{Filter: odd})), func(r *cri.StreamPodSandboxesResponse) []string {
		return []string{r.PodSandboxes[0].Id}
	}), fmt.Sprint(pods[1:2]))
	ofContainers := func(filter *cri.ContainerFilter) string {
		return chunks(t, call(d.Runtime.StreamContainers(ctx, &cri.StreamContainersRequest{Filter: filter})), func(r *cri.StreamContainersResponse) (ids []string) {
			for _, c := range r.Containers {
				ids = append(ids, c.Id)
			}
			return ids
		})
	}
	want(t, "containers", ofContainers(nil), fmt.Sprint(containers))
	want(t, "containers of a pod", ofContainers(&cri.ContainerFilter{PodSandboxId: pods[2]}), fmt.Sprint(containers[2:]))
	want(t, "containers of no pod", ofContainers(&cri.ContainerFilter{PodSandboxId: unknown}), "[]")
	sorted := func(ids []string) string { return fmt.Sprint(slices.Sorted(slices.Values(ids))) }
	want(t, "statistics of containers", chunks(t, call(d.Runtime.StreamContainerStats(ctx, &cri.StreamContainerStatsRequest{})), func(r *cri.StreamContainerStatsResponse) (ids []string) {
		for _, s := range r.ContainerStats {
			ids = append(ids, s.Attributes.Id)
		}
		return slices.Sorted(slices.Values(ids))
	}), sorted(containers))
	want(t, "statistics of pods", chunks(t, call(d.Runtime.StreamPodSandboxStats(ctx, &cri.StreamPodSandboxStatsRequest{})), func(r *cri.StreamPodSandboxStatsResponse) (ids []string) {
		for _, s := range r.PodSandboxStats {
			ids = append(ids, s.Attributes.Id)
		}
		return slices.Sorted(slices.Values(ids))
	}), sorted(pods))
	want(t, "metrics of pods", chunks(t, call(d.Runtime.StreamPodSandboxMetrics(ctx, &cri.StreamPodSandboxMetricsRequest{})), func(r *cri.StreamPodSandboxMetricsResponse) (ids []string) {
		for _, m := range r.PodSandboxMetrics {
			ids = append(ids, m.PodSandboxId)
		}
		return slices.Sorted(slices.Values(ids))
	}), sorted(pods))
	want(t, "images", chunks(t, call(d.Images.StreamImages(ctx, &cri.StreamImagesRequest{})), func(r *cri.StreamImagesResponse) (ids []string) {
		for _, i := range r.Images {
			ids = append(ids, i.Id)
		}
		return ids
	}), fmt.Sprint([]string{imageStatus(t, d, images.Busybox).Id}))
}

// call is how a stream began.
func call[R any](stream grpc.ServerStreamingClient[R], err error) func() (grpc.ServerStreamingClient[R], error) {
	return func() (grpc.ServerStreamingClient[R], error) { return stream, err }
}

// chunks are the ids of all messages of a stream, none of which is empty.
func chunks[R any](t *testing.T, begun func() (grpc.ServerStreamingClient[R], error), ids func(*R) []string) string {
	t.Helper()
	stream, err := begun()
	check(t, err)
	all := []string{}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return fmt.Sprint(all)
		}
		check(t, err)
		part := ids(r)
		if len(part) == 0 {
			t.Error("an empty message")
		}
		all = append(all, part...)
	}
}

// TestRootRemovalsOfAnImageAtOnce: many may remove the same image, and each succeeds.
func TestRootRemovalsOfAnImageAtOnce(t *testing.T) {
	d := start(t)
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if _, err := d.Images.RemoveImage(d.Context(), &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: images.Busybox}}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	list, err := d.Images.ListImages(d.Context(), &cri.ListImagesRequest{})
	check(t, err)
	want(t, "images that are left", len(list.Images), 0)
}
