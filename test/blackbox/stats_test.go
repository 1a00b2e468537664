package blackbox

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
)

// busy works, has 20 MB, and then waits.
const busy = `x=$(head -c 20000000 /dev/zero | tr '\0' x); dd if=/dev/zero of=/written bs=1M count=3 2>/dev/null; echo ready; trap "exit 0" TERM; while :; do i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 0.05; done`

// ownCgroup names the pod's cgroup as kubelet does: with its uid, which says that it is the pod's alone.
func ownCgroup(d *harness.Daemon, config *cri.PodSandboxConfig) *cri.PodSandboxConfig {
	parent := d.PodCgroup("x")
	if slice, ok := strings.CutSuffix(parent, "-pod_x.slice"); ok {
		config.Linux.CgroupParent = slice + "-pod" + strings.ReplaceAll(config.Metadata.Uid, "-", "_") + ".slice"
	} else {
		config.Linux.CgroupParent = strings.TrimSuffix(parent, "pod-x") + "pod" + config.Metadata.Uid
	}
	return config
}

func containerStats(t *testing.T, d *harness.Daemon, id string) *cri.ContainerStats {
	t.Helper()
	got, err := d.Runtime.ContainerStats(d.Context(), &cri.ContainerStatsRequest{ContainerId: id})
	check(t, err)
	return got.Stats
}

func podStats(t *testing.T, d *harness.Daemon, id string) *cri.PodSandboxStats {
	t.Helper()
	got, err := d.Runtime.PodSandboxStats(d.Context(), &cri.PodSandboxStatsRequest{PodSandboxId: id})
	check(t, err)
	return got.Stats
}

func TestRootStats(t *testing.T) {
	d := start(t)
	config := ownCgroup(d, d.PodConfig("measured"))
	config.Labels = map[string]string{"app": "measured"}
	pod := d.RunPod(config)
	limited := harness.ContainerConfig("busy", busy)
	limited.Linux.Resources.MemoryLimitInBytes = 256 << 20
	limited.Labels = map[string]string{"part": "busy"}
	c := pod.Run(limited)
	d.Eventually("the container to have its memory", func() bool { return strings.Contains(c.Output("stdout"), "ready") })
	first := containerStats(t, d, c.ID)
	firstPod := podStats(t, d, pod.ID)
	c.Exec("ping -c 3 -i 0.2 " + gateway(t, c))
	time.Sleep(1100 * time.Millisecond)

	before := time.Now()
	s := containerStats(t, d, c.ID)
	if s.Attributes.Id != c.ID || s.Attributes.Metadata.Name != "busy" || s.Attributes.Labels["part"] != "busy" {
		t.Errorf("attributes %v", s.Attributes)
	}
	if s.Cpu.Timestamp < before.UnixNano() || s.Cpu.UsageCoreNanoSeconds.Value <= first.Cpu.UsageCoreNanoSeconds.Value || s.Cpu.UsageNanoCores.GetValue() == 0 {
		t.Errorf("processors %v, before %v", s.Cpu, first.Cpu)
	}
	// At most what all processors did meanwhile.
	if most := uint64(64e9); s.Cpu.UsageNanoCores.GetValue() > most {
		t.Errorf("%d billionths of a processor", s.Cpu.UsageNanoCores.GetValue())
	}
	m := s.Memory
	if m.WorkingSetBytes.Value < 20e6 || m.RssBytes.Value < 15e6 || m.UsageBytes.Value < m.WorkingSetBytes.Value || m.PageFaults.Value == 0 || m.AvailableBytes.GetValue() > 256<<20-20e6 || m.AvailableBytes.GetValue() == 0 {
		t.Errorf("memory %v", m)
	}
	if _, err := os.Stat("/proc/pressure/cpu"); err == nil && (s.Cpu.Psi == nil || m.Psi == nil || s.Io.GetPsi() == nil) {
		t.Errorf("no pressure: %v", s)
	}
	d.Eventually("the writable layer to be measured", func() bool {
		w := containerStats(t, d, c.ID).WritableLayer
		return w.GetUsedBytes().GetValue() >= 3<<20 && w.InodesUsed.Value > 0 && w.FsId.Mountpoint != "" && w.Timestamp > 0
	})

	p := podStats(t, d, pod.ID)
	linux := p.Linux
	if p.Attributes.Id != pod.ID || p.Attributes.Metadata.Uid != config.Metadata.Uid || p.Attributes.Labels["app"] != "measured" || len(linux.Containers) != 1 {
		t.Errorf("pod %v", p.Attributes)
	}
	if linux.Cpu.UsageCoreNanoSeconds.Value < s.Cpu.UsageCoreNanoSeconds.Value || linux.Memory.WorkingSetBytes.Value < 20e6 || linux.Process.GetProcessCount().GetValue() == 0 {
		t.Errorf("pod %v", linux)
	}
	if _, err := os.Stat("/proc/pressure/cpu"); err == nil && linux.Cpu.Psi == nil {
		t.Error("the pod's own cgroup has no pressure")
	}
	now, was := linux.Network.GetDefaultInterface(), firstPod.Linux.Network.GetDefaultInterface()
	if now.GetName() != "eth0" || now.RxBytes.Value < was.RxBytes.Value+3*84 || now.TxBytes.Value < was.TxBytes.Value+3*84 {
		t.Errorf("network %v, before %v", now, was)
	}

	idle := d.RunPod(harness.OnHostNetwork(d.PodConfig("idle")))
	if s := podStats(t, d, idle.ID); s.Linux.Network != nil || s.Linux.Cpu.UsageCoreNanoSeconds.Value != 0 {
		t.Errorf("a pod without containers, on the host's network: %v", s.Linux)
	}
	statsFilters(t, d, pod, c, idle)
	statsOfEnded(t, d, pod, c)
}

// gateway is the pod's, which answers pings.
func gateway(t *testing.T, c *harness.Container) string {
	t.Helper()
	fields := strings.Fields(c.Exec("ip route show default"))
	if len(fields) < 3 {
		t.Fatalf("default route %q", fields)
	}
	return fields[2]
}

func statsFilters(t *testing.T, d *harness.Daemon, pod *harness.Pod, c *harness.Container, idle *harness.Pod) {
	t.Helper()
	for name, f := range map[string]struct {
		filter *cri.ContainerStatsFilter
		want   []string
	}{
		"none":    {nil, []string{c.ID}},
		"id":      {&cri.ContainerStatsFilter{Id: c.ID}, []string{c.ID}},
		"pod":     {&cri.ContainerStatsFilter{PodSandboxId: pod.ID}, []string{c.ID}},
		"another": {&cri.ContainerStatsFilter{PodSandboxId: idle.ID}, nil},
		"label":   {&cri.ContainerStatsFilter{LabelSelector: map[string]string{"part": "busy"}}, []string{c.ID}},
		"no such": {&cri.ContainerStatsFilter{LabelSelector: map[string]string{"part": "idle"}}, nil},
	} {
		list, err := d.Runtime.ListContainerStats(d.Context(), &cri.ListContainerStatsRequest{Filter: f.filter})
		check(t, err)
		var ids, streamed []string
		for _, s := range list.Stats {
			ids = append(ids, s.Attributes.Id)
		}
		stream, err := d.Runtime.StreamContainerStats(d.Context(), &cri.StreamContainerStatsRequest{Filter: f.filter})
		check(t, err)
		for {
			part, err := stream.Recv()
			if err == io.EOF {
				break
			}
			check(t, err)
			for _, s := range part.ContainerStats {
				streamed = append(streamed, s.Attributes.Id)
			}
		}
		if !slices.Equal(ids, f.want) || !slices.Equal(streamed, f.want) {
			t.Errorf("filter by %s: %v, as a stream %v, wanted %v", name, ids, streamed, f.want)
		}
	}
	for name, f := range map[string]struct {
		filter *cri.PodSandboxStatsFilter
		want   []string
	}{
		"none":  {nil, []string{pod.ID, idle.ID}},
		"id":    {&cri.PodSandboxStatsFilter{Id: idle.ID}, []string{idle.ID}},
		"label": {&cri.PodSandboxStatsFilter{LabelSelector: map[string]string{"app": "measured"}}, []string{pod.ID}},
	} {
		list, err := d.Runtime.ListPodSandboxStats(d.Context(), &cri.ListPodSandboxStatsRequest{Filter: f.filter})
		check(t, err)
		var ids []string
		for _, s := range list.Stats {
			ids = append(ids, s.Attributes.Id)
		}
		if !slices.Equal(ids, f.want) {
			t.Errorf("filter pods by %s: %v, wanted %v", name, ids, f.want)
		}
	}
}

func statsOfEnded(t *testing.T, d *harness.Daemon, pod *harness.Pod, c *harness.Container) {
	t.Helper()
	// The next daemon measures what it found running.
	d.Kill()
	d.Restart()
	if s := containerStats(t, d, c.ID); s.Memory.WorkingSetBytes.Value < 20e6 {
		t.Errorf("after the daemon's death: %v", s.Memory)
	}
	c.Stop(0)
	_, err := d.Runtime.ContainerStats(d.Context(), &cri.ContainerStatsRequest{ContainerId: c.ID})
	wantError(t, err, codes.FailedPrecondition, c.ID)
	_, err = d.Runtime.ContainerStats(d.Context(), &cri.ContainerStatsRequest{ContainerId: "none"})
	wantError(t, err, codes.NotFound, "none")
	_, err = d.Runtime.PodSandboxStats(d.Context(), &cri.PodSandboxStatsRequest{PodSandboxId: "none"})
	wantError(t, err, codes.NotFound, "none")
	pod.Stop()
	_, err = d.Runtime.PodSandboxStats(d.Context(), &cri.PodSandboxStatsRequest{PodSandboxId: pod.ID})
	wantError(t, err, codes.FailedPrecondition, pod.ID)
}

func TestRootMetrics(t *testing.T) {
	d := start(t)
	pod := d.RunPod(ownCgroup(d, d.PodConfig("metrics")))
	config := harness.ContainerConfig("web", `echo x > /written; nc -l -p 99 & trap "exit 0" TERM; while :; do sleep 0.1; done`)
	config.Linux.Resources = &cri.LinuxContainerResources{CpuPeriod: 50000, CpuQuota: 25000, CpuShares: 512, MemoryLimitInBytes: 128 << 20}
	c := pod.Run(config)
	descriptors, err := d.Runtime.ListMetricDescriptors(d.Context(), &cri.ListMetricDescriptorsRequest{})
	check(t, err)
	keys := map[string][]string{}
	for _, m := range descriptors.Descriptors {
		keys[m.Name] = m.LabelKeys
	}
	want(t, "descriptors", len(keys), 56)
	d.Eventually("the container to listen", func() bool { return strings.Contains(c.Exec("netstat -ltn"), ":99 ") })
	got, err := d.Runtime.ListPodSandboxMetrics(d.Context(), &cri.ListPodSandboxMetricsRequest{})
	check(t, err)
	if len(got.PodMetrics) != 1 || got.PodMetrics[0].PodSandboxId != pod.ID || len(got.PodMetrics[0].ContainerMetrics) != 1 {
		t.Fatalf("metrics %v", got)
	}
	read := func(list []*cri.Metric, labels map[string]string) map[string]uint64 {
		out := map[string]uint64{}
		for _, m := range list {
			out[m.Name] = m.Value.Value
			if len(m.LabelValues) != len(keys[m.Name]) {
				t.Fatalf("%s: labels %q for %q", m.Name, m.LabelValues, keys[m.Name])
			}
			for i, key := range keys[m.Name] {
				if want, ok := labels[key]; ok && m.LabelValues[i] != want {
					t.Errorf("%s: %s is %q, wanted %q", m.Name, key, m.LabelValues[i], want)
				}
			}
		}
		return out
	}
	of := read(got.PodMetrics[0].ContainerMetrics[0].Metrics, map[string]string{
		"id": c.Cgroup(), "name": c.ID, "container": "web", "pod": "metrics", "namespace": "test",
	})
	whole := read(got.PodMetrics[0].Metrics, map[string]string{
		"id": pod.Config.Linux.CgroupParent, "name": "", "container": "", "image": "", "pod": "metrics", "namespace": "test", "interface": "eth0",
	})
	for name, value := range map[string]uint64{
		"container_spec_cpu_period": 50000, "container_spec_cpu_quota": 25000, "container_spec_cpu_shares": 512,
		"container_spec_memory_limit_bytes": 128 << 20, "container_oom_events_total": 0,
	} {
		want(t, name, of[name], value)
	}
	if of["container_processes"] < 2 || of["container_sockets"] < 1 || of["container_file_descriptors"] < 4 || of["container_threads"] < 2 || of["container_ulimits_soft"] == 0 {
		t.Errorf("processes: %v", of)
	}
	if since := uint64(time.Now().Unix()) - of["container_start_time_seconds"]; since > 120 {
		t.Errorf("started %d seconds ago", since)
	}
	if whole["container_network_transmit_packets_total"] == 0 || whole["container_memory_working_set_bytes"] < of["container_memory_working_set_bytes"]/2 {
		t.Errorf("the pod's: %v", whole)
	}
	if missing := missingMetrics(keys, of, whole); len(missing) > 0 {
		t.Errorf("metrics that are described and not there: %q", missing)
	}
	for _, command := range [][]string{{"metricsp"}, {"metricdescs"}} {
		if out := d.MustCrictl(command...); !strings.Contains(out, "container_network_receive_bytes_total") {
			t.Errorf("crictl %q: %s", command, out)
		}
	}
}

// missingMetrics are those that every container has, or its pod.
func missingMetrics(keys map[string][]string, found ...map[string]uint64) (out []string) {
	for name := range keys {
		optional := strings.Contains(name, "hugetlb") || // a node without them
			strings.Contains(name, "pressure") || strings.Contains(name, "memory_swap") || strings.Contains(name, "memory_max_usage") || // an old kernel
			strings.HasPrefix(name, "container_fs_reads") || strings.HasPrefix(name, "container_fs_writes") || strings.Contains(name, "blkio") // it used no disk
		if !optional && !slices.ContainsFunc(found, func(m map[string]uint64) bool { _, ok := m[name]; return ok }) {
			out = append(out, name)
		}
	}
	return out
}

func TestRootCrictlStats(t *testing.T) {
	d := start(t)
	pod := d.RunPod(d.PodConfig("shown"))
	c := pod.Run(harness.ContainerConfig("seen", harness.Sleep))
	for _, command := range [][]string{{"stats"}, {"stats", c.ID[:12]}, {"statsp"}, {"statsp", pod.ID[:12]}} {
		out := d.MustCrictl(command...)
		id, name := c.ID[:13], "seen"
		if command[0] == "statsp" {
			id, name = pod.ID[:13], "shown"
		}
		if !strings.Contains(out, id) || !strings.Contains(out, name) {
			t.Errorf("crictl %q: %s", command, out)
		}
	}
	stats := decode(t, d.MustCrictl("stats", "-o", "json"))
	list, _ := stats["stats"].([]any)
	if len(list) != 1 || fmt.Sprint(dig(t, list[0], "attributes", "id")) != c.ID || dig(t, list[0], "memory", "workingSetBytes") == nil {
		t.Errorf("stats as JSON: %v", stats)
	}
}
