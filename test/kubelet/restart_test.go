package kubelet

import (
	"testing"
	"time"
)

// survivors are a pod whose probes go on, and one with a sidecar.
const survivors = `
spec:
  terminationGracePeriodSeconds: 5
  initContainers:
  - {name: init, image: BUSYBOX, command: ['true']}
  - {name: sidecar, image: BUSYBOX, restartPolicy: Always, command: [sleep, '1000']}
  containers:
  - name: main
    image: BUSYBOX
    command: [sh, -c, 'echo start >> /host/starts; trap "echo end >> /host/starts; exit" TERM; while :; do sleep 0.1; done']
    livenessProbe: {exec: {command: [cat, /host/starts]}, periodSeconds: 1, failureThreshold: 5, timeoutSeconds: 10}
    readinessProbe: {exec: {command: [cat, /host/starts]}, periodSeconds: 1, timeoutSeconds: 10}
    volumeMounts: [{name: host, mountPath: /host}]
  - {name: web, image: NGINX, readinessProbe: {httpGet: {port: 80}, periodSeconds: 1}}
  volumes:
  - {name: host, hostPath: {path: DIR}}
`

// TestRootRestarts ends kubelet, the daemon and the keeper, each alone and all together, under a pod that must not notice.
func TestRootRestarts(t *testing.T) {
	n := start(t, nil)
	d := n.Daemon
	p := n.Run(t, "survivor", survivors)
	before := p.Ready()
	for _, c := range []struct {
		name string
		end  func()
	}{
		{"kubelet", func() { n.Kill(); n.Launch() }},
		{"daemon", func() { d.Kill(); d.Restart() }},
		{"daemon for a while", func() { d.Kill(); time.Sleep(8 * time.Second); d.Restart() }},
		{"keeper", d.KillKeeper},
		{"all", func() { n.Kill(); d.KillKeeper(); d.Kill(); d.Restart(); n.Launch() }},
		{"daemon after kubelet", func() { n.Kill(); d.Kill(); d.Restart(); n.Launch() }},
	} {
		c.end()
		// kubelet looks for a daemon that was away again after some seconds only.
		eventually(t, "an exec after the end of "+c.name, func() bool {
			out, err := p.TryExec("main", "", "echo", "here")
			return err == nil && out == "here\n"
		})
		time.Sleep(3 * time.Second) // in which kubelet would do what it must not
		s := p.Ready()
		for _, name := range []string{"init", "sidecar", "main", "web"} {
			is, was := s.Container(name), before.Container(name)
			want(t, name+"'s id after the end of "+c.name, is.ContainerID, was.ContainerID)
			want(t, name+"'s restarts after the end of "+c.name, is.RestartCount, 0)
		}
		want(t, "address after the end of "+c.name, s.Status.PodIP, before.Status.PodIP)
		want(t, "starts after the end of "+c.name, p.File("starts"), "start\n")
	}
	late := n.Run(t, "late", survivors)
	late.Ready()
	p.Remove()
	want(t, "starts and the end", p.File("starts"), "start\nend\n")
}

// TestRootAway has things happen while nobody looks: containers end while kubelet, or all of berth, is away, and a pod is
// taken away and another comes.
func TestRootAway(t *testing.T) {
	n := start(t, nil)
	d := n.Daemon
	const spec = `
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: BUSYBOX, command: [sh, -c, 'until test -e /host/go; do sleep 0.1; done; rm /host/go; exit 5'], volumeMounts: [{name: host, mountPath: /host}]}
  volumes:
  - {name: host, hostPath: {path: DIR}}
`
	one, two, gone := n.Run(t, "one", spec), n.Run(t, "two", spec), n.Run(t, "gone", spec)
	one.Ready()
	two.Ready()
	gone.Ready()
	ended := func(p *Pod, times int) {
		t.Helper()
		s := p.Until("the container to be started again", func(s *Status) bool {
			c := s.Container("main")
			return c.RestartCount == times && c.State.Running != nil && c.LastState.Terminated != nil
		})
		want(t, "exit code", s.Container("main").LastState.Terminated.ExitCode, 5)
	}
	n.Kill()
	one.let("go")
	gone.unlisted()
	n.Launch()
	ended(one, 1)
	n.eventually("the pod that was taken away to end", func() bool {
		return d.MustCrictl("pods", "-q", "--state", "ready", "--label", "io.kubernetes.pod.uid="+gone.uid()) == ""
	})
	n.Kill()
	d.Kill()
	two.let("go")
	eventually(t, "the program to take note", func() bool { return !two.has("go") })
	three := n.Run(t, "three", spec)
	d.Restart()
	n.Launch()
	ended(two, 1)
	three.Ready()
}
