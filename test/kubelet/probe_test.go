package kubelet

import (
	"strings"
	"testing"
)

// probes are those of readiness, by exec, HTTP, TCP and gRPC.
func probes(t *testing.T, n *Node) {
	p := n.Run(t, "probes", `
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: web, image: NGINX, readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1}, livenessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}}
  - {name: tcp, image: BUSYBOX, command: [sleep, '1000'], readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}}
  - {name: closed, image: BUSYBOX, command: [sleep, '1000'], readinessProbe: {tcpSocket: {port: 81}, periodSeconds: 1}}
  - {name: exec, image: BUSYBOX, command: [sleep, '1000'], readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1, timeoutSeconds: 10}}
  - {name: slow, image: BUSYBOX, command: [sleep, '1000'], readinessProbe: {exec: {command: [sh, -c, 'sleep 1001; true']}, periodSeconds: 1, timeoutSeconds: 1}}
  - {name: grpc, image: HEALTH, readinessProbe: {grpc: {port: 5000}, periodSeconds: 1}}
`)
	ready := func(name string, is bool) {
		t.Helper()
		p.Until("container "+name+" to be ready or not", func(s *Status) bool {
			c := s.Container(name)
			return c.State.Running != nil && c.Ready == is
		})
	}
	ready("web", true)
	ready("tcp", true)
	ready("grpc", true)
	p.Exec("grpc", "touch /tmp/sick")
	ready("grpc", false)
	ready("exec", false)
	p.Exec("exec", "touch /tmp/ready")
	ready("exec", true)
	p.Exec("exec", "rm /tmp/ready")
	ready("exec", false)
	ready("closed", false)
	ready("slow", false)
	if text := p.Exec("slow", "ps"); strings.Count(text, "sleep 1001") > 2 {
		t.Errorf("probes that took too long run on:\n%s", text)
	}
	s := p.Status()
	for _, name := range []string{"web", "tcp", "closed", "exec", "slow", "grpc"} {
		want(t, "restarts of "+name, s.Container(name).RestartCount, 0)
	}
}

// alive are probes that end a container, once startup probes have let them.
func alive(t *testing.T, n *Node) {
	p := n.Run(t, "alive", `
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: BUSYBOX
    command: [sh, -c, 'sleep 3; touch /tmp/alive; sleep 1000']
    startupProbe: {exec: {command: [test, -e, /tmp/alive]}, periodSeconds: 1, failureThreshold: 60, timeoutSeconds: 10}
    livenessProbe: {exec: {command: [test, -e, /tmp/alive]}, periodSeconds: 1, failureThreshold: 1, timeoutSeconds: 10}
`)
	s := p.Ready()
	want(t, "restarts before", s.Container("main").RestartCount, 0)
	p.Exec("main", "rm /tmp/alive")
	s = p.Until("a restart", func(s *Status) bool {
		c := s.Container("main")
		return c.RestartCount == 1 && c.Ready
	})
	if last := s.Container("main").LastState.Terminated; last == nil || last.ExitCode != 137 && last.ExitCode != 143 {
		t.Errorf("the first one ended as %+v", last)
	}
}
