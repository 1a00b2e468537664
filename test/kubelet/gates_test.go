package kubelet

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestRootGates has kubelet use of the CRI what it only uses when asked to: pods' statistics and metrics instead of
// cAdvisor's, events, and lists as streams.
func TestRootGates(t *testing.T) {
	n := start(t, map[string]bool{"PodAndContainerStatsFromCRI": true, "EventedPLEG": true, "CRIListStreaming": true})
	p := n.Run(t, "measured", `
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: BUSYBOX, command: [sh, -c, 'dd if=/dev/zero of=/tmp/x bs=1M count=3; while :; do sleep 0.01; done'], resources: {limits: {memory: 64Mi}}}
  - {name: web, image: NGINX, readinessProbe: {httpGet: {port: 80}, periodSeconds: 1}}
`)
	uid := p.Ready().Metadata.UID
	eventually(t, "figures of the pod", func() bool { return whole(t, n, uid) })
	text, err := n.get("/metrics/cadvisor")
	n.must(err)
	for _, name := range []string{"container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_processes"} {
		if !labelled(text, name, `container="main"`, `pod="measured-node"`, `namespace="test"`) {
			t.Errorf("no %s of the container is in kubelet's metrics", name)
		}
	}
	if !labelled(text, "container_network_receive_bytes_total", `pod="measured-node"`) {
		t.Error("no network counter of the pod is in kubelet's metrics")
	}
	crashes(t, n) // what ends is seen through events
	inits(t, n)
}

// labelled says whether a metric with all of these labels is in the text.
func labelled(text, name string, labels ...string) bool {
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name+"{")
		for _, l := range labels {
			ok = ok && strings.Contains(rest, l)
		}
		if ok {
			return true
		}
	}
	return false
}

// whole says whether kubelet's summary has all figures of the pod.
func whole(t *testing.T, n *Node, uid string) bool {
	t.Helper()
	var summary struct {
		Pods []struct {
			PodRef  struct{ UID string }
			CPU     struct{ UsageNanoCores *uint64 }
			Memory  struct{ WorkingSetBytes uint64 }
			Network struct{ RxBytes uint64 }
			Process struct {
				Count uint64 `json:"process_count"`
			} `json:"process_stats"`
			Containers []struct {
				Name   string
				CPU    struct{ UsageNanoCores *uint64 }
				Memory struct{ WorkingSetBytes uint64 }
				Rootfs struct{ UsedBytes uint64 }
			}
		}
	}
	text, err := n.get("/stats/summary")
	if err == nil {
		err = json.Unmarshal([]byte(text), &summary)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range summary.Pods {
		if p.PodRef.UID != uid || len(p.Containers) != 2 {
			continue
		}
		seen, _ := json.Marshal(p)
		t.Logf("kubelet has of the pod: %s", seen)
		good := p.CPU.UsageNanoCores != nil && p.Memory.WorkingSetBytes > 0 && p.Network.RxBytes > 0 && p.Process.Count > 2
		for _, c := range p.Containers {
			good = good && c.CPU.UsageNanoCores != nil && c.Memory.WorkingSetBytes > 0 && (c.Name != "main" || c.Rootfs.UsedBytes > 3<<20)
		}
		return good
	}
	return false
}
