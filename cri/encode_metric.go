package cri

import (
	"slices"
	"time"

	"github.com/berth-runtime/berth/sandbox"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// encodeMetrics gives the metrics of all pods. began is when they were asked for: what is older was kept since.
func encodeMetrics(pods []*sandbox.PodMetrics, disk *sandbox.FilesystemStats, began time.Time) []*v1.PodSandboxMetrics {
	devices := map[[2]uint32]string{}
	out := make([]*v1.PodSandboxMetrics, 0, len(pods))
	for _, pod := range pods {
		config := pod.Pod.Config
		whole := &subject{network: pod.Network, detail: pod.Detail, devices: devices, disk: disk, now: began.Unix()}
		if pod.Detail != nil { // otherwise its figures are those of its containers
			whole.usage = pod.Usage
		}
		encoded := &v1.PodSandboxMetrics{
			PodSandboxId: pod.Pod.ID,
			Metrics:      whole.encode([]string{pod.Cgroup, "", "", "", config.Metadata.Name, config.Metadata.Namespace}, pod.Collected(), began),
		}
		for _, c := range pod.Containers {
			labels := []string{c.Container.Cgroup, c.Container.ID, imageLabel(c.Container), c.Container.Config.Metadata.Name, config.Metadata.Name, config.Metadata.Namespace}
			one := &subject{usage: c.Usage, detail: c.Detail, container: c, devices: devices, disk: disk, now: began.Unix()}
			encoded.ContainerMetrics = append(encoded.ContainerMetrics, &v1.ContainerMetrics{
				ContainerId: c.Container.ID, Metrics: one.encode(labels, c.Usage.At, began),
			})
		}
		out = append(out, encoded)
	}
	return out
}

// imageLabel is the image as people call it: kubelet asks for it by its id.
func imageLabel(in *sandbox.ContainerInfo) string {
	if in.ImageName != "" {
		return in.ImageName
	}
	return in.ImageID
}

// encode gives a subject's metrics. All of them are said to be as old as the oldest.
func (s *subject) encode(base []string, at, began time.Time) []*v1.Metric {
	collected := encodeCollected(at, began)
	out := make([]*v1.Metric, 0, len(metrics))
	for _, m := range metrics {
		for _, p := range m.points(s) {
			labels := base
			if len(p.labels) > 0 {
				labels = slices.Concat(base, p.labels)
			}
			out = append(out, &v1.Metric{Name: m.name, Timestamp: collected, MetricType: m.kind, LabelValues: labels, Value: encodeNumber(p.value)})
		}
	}
	return out
}
