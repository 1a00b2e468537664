package cri

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-runtime/berth/sandbox"
	"github.com/berth-runtime/berth/sandbox/spec"
	"google.golang.org/grpc/codes"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// measured is a pod and a container of which everything is counted, in numbers of their own.
func measured(pod *sandbox.PodInfo, container *sandbox.ContainerInfo) *sandbox.PodMetrics {
	out := &sandbox.PodMetrics{}
	fillStruct(reflect.ValueOf(out).Elem())
	// One of each, as Prometheus takes no two values of the same labels.
	out.Pod, out.Containers, out.PodStats.Containers = pod, out.Containers[:1], out.PodStats.Containers[:1]
	out.Containers[0].Container, out.PodStats.Containers[0].Container = container, container
	out.Network.Default.Name, out.Network.Others = "eth0", out.Network.Others[:1]
	for _, detail := range []*sandbox.Detail{out.Detail, out.Containers[0].Detail} {
		detail.Hugepages, detail.Disks = detail.Hugepages[:1], detail.Disks[:1]
	}
	return out
}

func TestStatsCalls(t *testing.T) {
	d := open(t, fullRooms())
	for _, call := range []func() error{
		func() error {
			_, err := d.ContainerStats(t.Context(), &v1.ContainerStatsRequest{ContainerId: "a"})
			return err
		},
		func() error {
			_, err := d.ListContainerStats(t.Context(), &v1.ListContainerStatsRequest{Filter: &v1.ContainerStatsFilter{Id: "a", PodSandboxId: "b", LabelSelector: map[string]string{"k": "v"}}})
			return err
		},
		func() error {
			_, err := d.ListContainerStats(t.Context(), &v1.ListContainerStatsRequest{})
			return err
		},
		func() error {
			_, err := d.PodSandboxStats(t.Context(), &v1.PodSandboxStatsRequest{PodSandboxId: "c"})
			return err
		},
		func() error {
			_, err := d.ListPodSandboxStats(t.Context(), &v1.ListPodSandboxStatsRequest{Filter: &v1.PodSandboxStatsFilter{Id: "d", LabelSelector: map[string]string{"k": "v"}}})
			return err
		},
	} {
		if err := call(); err != nil {
			t.Error(err)
		}
	}
	want := []any{
		[]any{"ContainerStats", "a"},
		[]any{"ListContainerStats", sandbox.ContainerFilter{ID: "a", PodID: "b", Labels: map[string]string{"k": "v"}}},
		[]any{"ListContainerStats", sandbox.ContainerFilter{}},
		[]any{"PodStats", "c"},
		[]any{"ListPodStats", sandbox.PodStatsFilter{ID: "d", Labels: map[string]string{"k": "v"}}},
	}
	if !reflect.DeepEqual(d.rooms.calls, want) {
		t.Errorf("calls\n%v\nwant\n%v", d.rooms.calls, want)
	}
}

// kubelet asks for the pod with no id at its start, to learn whether there are statistics of pods.
func TestStatsOfNothing(t *testing.T) {
	d := open(t, fullRooms())
	_, err := d.PodSandboxStats(t.Context(), &v1.PodSandboxStatsRequest{})
	wantCode(t, "a pod without id", err, codes.InvalidArgument)
	_, err = d.ContainerStats(t.Context(), &v1.ContainerStatsRequest{})
	wantCode(t, "a container without id", err, codes.InvalidArgument)
	if len(d.rooms.calls) != 0 {
		t.Errorf("the rooms were asked: %v", d.rooms.calls)
	}
	d.rooms.err = sandbox.ErrState
	_, err = d.ContainerStats(t.Context(), &v1.ContainerStatsRequest{ContainerId: "a"})
	wantCode(t, "one that doesn't run", err, codes.FailedPrecondition)
	d.rooms.err = sandbox.ErrNotFound
	_, err = d.PodSandboxStats(t.Context(), &v1.PodSandboxStatsRequest{PodSandboxId: "a"})
	wantCode(t, "one that isn't there", err, codes.NotFound)
}

func TestStatsStreams(t *testing.T) {
	d := open(t, fullRooms())
	one, err := d.StreamContainerStats(t.Context(), &v1.StreamContainerStatsRequest{Filter: &v1.ContainerStatsFilter{Id: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := one.Recv(); err != nil || len(got.ContainerStats) != 1 {
		t.Errorf("containers: %v, %v", got, err)
	}
	two, err := d.StreamPodSandboxStats(t.Context(), &v1.StreamPodSandboxStatsRequest{Filter: &v1.PodSandboxStatsFilter{Id: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := two.Recv(); err != nil || len(got.PodSandboxStats) != 1 {
		t.Errorf("pods: %v, %v", got, err)
	}
	three, err := d.StreamPodSandboxMetrics(t.Context(), &v1.StreamPodSandboxMetricsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := three.Recv(); err != nil || len(got.PodSandboxMetrics) != 1 {
		t.Errorf("metrics: %v, %v", got, err)
	}
	if want := (sandbox.ContainerFilter{ID: "a"}); !reflect.DeepEqual(d.rooms.calls[0], []any{"ListContainerStats", want}) {
		t.Errorf("asked %v", d.rooms.calls)
	}
}

// What the node doesn't count stays out, rather than being zero.
func TestEncodeStatsWithoutFigures(t *testing.T) {
	at := time.Unix(10, 0)
	container := &sandbox.ContainerInfo{ID: "c", Config: &spec.Container{}}
	none := encodeContainerStats(&sandbox.ContainerStats{Container: container, Usage: &sandbox.Usage{At: at}})
	if none.Cpu != nil || none.Memory != nil || none.Swap != nil || none.Io != nil || none.WritableLayer != nil {
		t.Errorf("stats of nothing: %v", none)
	}
	n := uint64(7)
	some := encodeContainerStats(&sandbox.ContainerStats{Container: container, Usage: &sandbox.Usage{
		At: at, CPU: &n, Memory: &sandbox.MemoryUsage{Current: 5, WorkingSet: 4}, Swap: &sandbox.SwapUsage{},
	}})
	if some.Cpu.UsageNanoCores != nil || some.Cpu.Psi != nil || some.Memory.AvailableBytes != nil || some.Swap.SwapAvailableBytes != nil {
		t.Errorf("stats without limits: %v", some)
	}
	if some.Cpu.Timestamp != at.UnixNano() {
		t.Errorf("time %d is not that of the measuring", some.Cpu.Timestamp)
	}
	over := encodeMemory(&sandbox.Usage{Memory: &sandbox.MemoryUsage{WorkingSet: 9, Limit: 8}})
	if over.AvailableBytes.Value != 0 {
		t.Errorf("over the limit: %v", over)
	}
	if got := encodeNetwork(&sandbox.NetworkStats{At: at}); got.DefaultInterface != nil || len(got.Interfaces) != 0 {
		t.Errorf("network without interfaces: %v", got)
	}
}

// criMetrics are what critest asks for.
const criMetrics = `blkio_device_usage_total cpu_cfs_periods_total cpu_cfs_throttled_periods_total cpu_cfs_throttled_seconds_total
cpu_system_seconds_total cpu_usage_seconds_total cpu_user_seconds_total file_descriptors fs_inodes_free fs_inodes_total fs_limit_bytes
fs_reads_bytes_total fs_reads_total fs_usage_bytes fs_writes_bytes_total fs_writes_total hugetlb_max_usage_bytes hugetlb_usage_bytes last_seen
memory_cache memory_failcnt memory_failures_total memory_kernel_usage memory_mapped_file memory_max_usage_bytes memory_rss memory_swap
memory_usage_bytes memory_working_set_bytes network_receive_bytes_total network_receive_errors_total network_receive_packets_dropped_total
network_receive_packets_total network_transmit_bytes_total network_transmit_errors_total network_transmit_packets_dropped_total
network_transmit_packets_total oom_events_total pressure_cpu_stalled_seconds_total pressure_cpu_waiting_seconds_total
pressure_io_stalled_seconds_total pressure_io_waiting_seconds_total pressure_memory_stalled_seconds_total pressure_memory_waiting_seconds_total
processes sockets spec_cpu_period spec_cpu_quota spec_cpu_shares spec_memory_limit_bytes spec_memory_reservation_limit_bytes
spec_memory_swap_limit_bytes start_time_seconds threads threads_max ulimits_soft`

// Each metric is described once, has as many values of labels as keys, and is there when everything is counted.
func TestMetrics(t *testing.T) {
	runtime, _ := services(fullRooms())
	described, err := runtime.ListMetricDescriptors(context.Background(), &v1.ListMetricDescriptorsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string][]string{}
	for _, d := range described.Descriptors {
		if _, twice := keys[d.Name]; twice || d.Help == "" {
			t.Errorf("%s is described twice, or without help %q", d.Name, d.Help)
		}
		keys[d.Name] = d.LabelKeys
	}
	wanted := strings.Fields(criMetrics)
	if len(wanted) != 56 || len(keys) != 56 {
		t.Errorf("%d metrics are wanted, %d described", len(wanted), len(keys))
	}
	got, err := runtime.ListPodSandboxMetrics(context.Background(), &v1.ListPodSandboxMetricsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	pod := got.PodMetrics[0]
	seen := map[string]bool{}
	unique := map[string]bool{}
	for _, m := range slices.Concat(pod.Metrics, pod.ContainerMetrics[0].Metrics) {
		seen[m.Name] = true
		if len(m.LabelValues) != len(keys[m.Name]) {
			t.Errorf("%s has labels %q for %q", m.Name, m.LabelValues, keys[m.Name])
		}
		id := m.Name + strings.Join(m.LabelValues, "\x00")
		if unique[id] {
			t.Errorf("%s %q is there twice", m.Name, m.LabelValues)
		}
		unique[id] = true
		counts := strings.HasSuffix(m.Name, "_total") && m.Name != "container_fs_inodes_total" || m.Name == "container_memory_failcnt"
		if counts != (m.MetricType == v1.MetricType_COUNTER) {
			t.Errorf("%s is a %s", m.Name, m.MetricType)
		}
	}
	for _, name := range wanted {
		if !seen["container_"+name] {
			t.Errorf("container_%s is missing", name)
		}
	}
	for _, m := range pod.ContainerMetrics[0].Metrics {
		labels := map[string]string{}
		for i, key := range keys[m.Name] {
			labels[key] = m.LabelValues[i]
		}
		for key, value := range labels {
			if value == "" {
				t.Errorf("%s has no %s", m.Name, key)
			}
		}
		if m.Timestamp == 0 {
			t.Errorf("%s is of long ago, and says that it was measured just now", m.Name)
		}
	}
	if pod.Metrics[0].LabelValues[3] != "" {
		t.Errorf("a pod's own metric is of container %q", pod.Metrics[0].LabelValues[3])
	}
}

// A metric of a container without limits, devices or a network, measured for this request.
func TestMetricsOfLittle(t *testing.T) {
	now := time.Unix(1000, 0)
	rooms := &fakeRooms{measured: &sandbox.PodMetrics{PodStats: &sandbox.PodStats{
		Pod: &sandbox.PodInfo{ID: "p", Config: &spec.Pod{}}, Usage: &sandbox.Usage{At: now},
	}, Containers: []*sandbox.ContainerMetrics{{
		ContainerStats: &sandbox.ContainerStats{Container: &sandbox.ContainerInfo{ID: "c", ImageID: "sha256:1", Config: &spec.Container{}}, Usage: &sandbox.Usage{At: now.Add(time.Second)}},
		Detail:         &sandbox.Detail{},
	}}}}
	runtime, _ := services(rooms)
	runtime.now = func() time.Time { return now }
	got, err := runtime.ListPodSandboxMetrics(context.Background(), &v1.ListPodSandboxMetricsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.PodMetrics[0].Metrics) != 0 {
		t.Errorf("a pod without cgroup and network: %v", got.PodMetrics[0].Metrics)
	}
	names := map[string]uint64{}
	for _, m := range got.PodMetrics[0].ContainerMetrics[0].Metrics {
		names[m.Name] = m.Value.Value
		if m.Timestamp != 0 || m.LabelValues[2] != "sha256:1" {
			t.Errorf("%s: time %d, labels %q", m.Name, m.Timestamp, m.LabelValues)
		}
	}
	want := map[string]uint64{
		"container_last_seen": 1000, "container_start_time_seconds": names["container_start_time_seconds"],
		"container_spec_cpu_period": 100000, "container_spec_cpu_shares": 1024,
	}
	if !reflect.DeepEqual(names, want) {
		t.Errorf("metrics %v, want %v", names, want)
	}
}
