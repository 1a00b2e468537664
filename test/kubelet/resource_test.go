package kubelet

import (
	"strings"
	"testing"

	"github.com/berth-runtime/berth/test/harness"
)

// hungry needs more memory than it may have.
func hungry(t *testing.T, n *Node) {
	p := n.Run(t, "hungry", `
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: BUSYBOX, command: [tail, /dev/zero], resources: {limits: {memory: 32Mi}}}
  - {name: other, image: BUSYBOX, command: [sleep, '1000']}
`)
	s := p.Until("a restart", func(s *Status) bool {
		c := s.Container("main")
		return c.RestartCount >= 1 && c.LastState.Terminated != nil
	})
	last := s.Container("main").LastState.Terminated
	want(t, "reason", last.Reason, "OOMKilled")
	want(t, "exit code", last.ExitCode, 137)
	want(t, "restarts of the other", s.Container("other").RestartCount, 0)
}

// grows is a pod whose limits change while it runs.
func grows(t *testing.T, n *Node) {
	const spec = `
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: BUSYBOX
    command: [sleep, '1000']
    resources: {requests: {cpu: 50m, memory: 32Mi}, limits: {cpu: CPU, memory: MEMORY}}
    resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}, {resourceName: memory, restartPolicy: NotRequired}]
`
	write := func(cpu, memory string) string {
		return strings.NewReplacer("CPU", cpu, "MEMORY", memory).Replace(spec)
	}
	p := n.Run(t, "grows", write("100m", "64Mi"))
	before := p.Ready().Container("main")
	limit := func() string {
		if harness.UnifiedCgroups() {
			return p.Exec("main", "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max")
		}
		return p.Exec("main", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.cfs_quota_us")
	}
	want(t, "limits", limit()[:8], "67108864")
	p.Write(write("200m", "128Mi"))
	s := p.Until("other limits in the status", func(s *Status) bool {
		r := s.Container("main").Resources
		return r != nil && r.Limits["memory"] == "128Mi" && r.Limits["cpu"] == "200m"
	})
	want(t, "the container", s.Container("main").ContainerID, before.ContainerID)
	text := limit()
	if !strings.HasPrefix(text, "134217728") || !strings.Contains(text, "20000") {
		t.Errorf("limits are %q", text)
	}
	p.Write(write("100m", "96Mi"))
	p.Until("lower limits in the status", func(s *Status) bool {
		r := s.Container("main").Resources
		return r != nil && r.Limits["memory"] == "96Mi" && r.Limits["cpu"] == "100m"
	})
	want(t, "restarts", p.Status().Container("main").RestartCount, 0)
}
