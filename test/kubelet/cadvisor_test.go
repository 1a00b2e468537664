package kubelet

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/berth-runtime/berth/test/harness"
)

// containerdSocket is written into cAdvisor.
const containerdSocket = "/run/containerd/containerd.sock"

// TestRootCadvisor: a kubelet with its default gates asks cAdvisor for metrics, and that asks berth whose a cgroup is.
func TestRootCadvisor(t *testing.T) {
	harness.NeedRoot(t)
	program(t)
	if _, err := os.Stat(filepath.Dir(containerdSocket)); err == nil {
		t.Skip("this machine has a containerd, at the path that cAdvisor knows")
	}
	t.Cleanup(func() { os.Remove(filepath.Dir(containerdSocket)) }) // empty by then
	n := startWith(t, fmt.Sprintf("\n[cadvisor]\nsocket = %q\n", containerdSocket), nil)
	p := n.Run(t, "watched", `
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: BUSYBOX, command: [sh, -c, 'while :; do sleep 0.01; done']}
  - {name: web, image: NGINX, readinessProbe: {httpGet: {port: 80}, periodSeconds: 1}}
`)
	uid := p.Ready().Metadata.UID
	for name, labels := range map[string][]string{
		"container_cpu_usage_seconds_total":     {`container="main"`, `pod="watched-node"`, `namespace="test"`},
		"container_memory_working_set_bytes":    {`container="web"`, `pod="watched-node"`, `namespace="test"`},
		"container_network_receive_bytes_total": {`interface="eth0"`, `pod="watched-node"`, `namespace="test"`},
	} {
		eventually(t, name+" of the pod", func() bool {
			text, err := n.get("/metrics/cadvisor")
			n.must(err)
			return labelled(text, name, labels...)
		})
	}
	eventually(t, "the network in kubelet's summary", func() bool { return received(t, n, uid) > 0 })
}

// received is how many bytes kubelet's summary says that a pod got.
func received(t *testing.T, n *Node, uid string) uint64 {
	t.Helper()
	var summary struct {
		Pods []struct {
			PodRef  struct{ UID string }
			Network struct{ RxBytes uint64 }
		}
	}
	text, err := n.get("/stats/summary")
	n.must(err)
	n.must(json.Unmarshal([]byte(text), &summary))
	for _, p := range summary.Pods {
		if p.PodRef.UID == uid {
			return p.Network.RxBytes
		}
	}
	return 0
}
