package kubelet

import (
	"strings"
	"testing"
)

// first is a pod of one container.
func first(t *testing.T, n *Node) {
	p := n.Run(t, "first", `
spec:
  containers:
  - {name: main, image: BUSYBOX, command: [sh, -c, 'echo hello; exec sleep 1000']}
  terminationGracePeriodSeconds: 1
`)
	s := p.Ready()
	want(t, "phase", s.Status.Phase, "Running")
	want(t, "the id's scheme", strings.HasPrefix(s.Container("main").ContainerID, "berth://"), true)
	want(t, "log", p.Logs("main", ""), "hello\n")
	want(t, "host name", p.Exec("main", "hostname"), "first-node")
	p.Remove()
	eventually(t, "the container to be removed", func() bool {
		list, err := n.Daemon.Crictl("ps", "-a", "-q", "--label", "io.kubernetes.pod.uid="+p.uid())
		p.must(err)
		return list == ""
	})
}

// inits are containers that run one after the other before the others, and one of them that stays.
func inits(t *testing.T, n *Node) {
	p := n.Run(t, "inits", `
spec:
  initContainers:
  - {name: one, image: BUSYBOX, command: [sh, -c, 'echo one >> /host/order'], volumeMounts: [{name: host, mountPath: /host}]}
  - name: sidecar
    image: BUSYBOX
    restartPolicy: Always
    command: [sh, -c, 'trap "echo sidecar ends >> /host/order; exit" TERM; sleep 2; echo sidecar >> /host/order; touch /started; while :; do sleep 0.1; done']
    startupProbe: {exec: {command: [test, -e, /started]}, periodSeconds: 1, failureThreshold: 60}
    volumeMounts: [{name: host, mountPath: /host}]
  - {name: two, image: BUSYBOX, command: [sh, -c, 'echo two >> /host/order'], volumeMounts: [{name: host, mountPath: /host}]}
  containers:
  - name: main
    image: BUSYBOX
    command: [sh, -c, 'trap "sleep 1; echo main ends >> /host/order; exit" TERM; echo main >> /host/order; while :; do sleep 0.1; done']
    volumeMounts: [{name: host, mountPath: /host}]
  volumes:
  - {name: host, hostPath: {path: DIR, type: Directory}}
`)
	s := p.Ready()
	want(t, "order", p.File("order"), "one\nsidecar\ntwo\nmain\n")
	for _, name := range []string{"one", "two"} {
		if term := s.Container(name).State.Terminated; term == nil || term.Reason != "Completed" {
			t.Errorf("init container %s is %+v", name, s.Container(name).State)
		}
	}
	if s.Container("sidecar").State.Running == nil {
		t.Error("the sidecar does not run")
	}
	p.Remove()
	want(t, "order with the end", p.File("order"), "one\nsidecar\ntwo\nmain\nmain ends\nsidecar ends\n")
}

// broken is an init container that fails twice, and holds up the pod.
func broken(t *testing.T, n *Node) {
	p := n.Run(t, "broken", `
spec:
  initContainers:
  - {name: init, image: BUSYBOX, command: [sh, -c, 'echo try >> /host/tries; test $(wc -l < /host/tries) = 3'], volumeMounts: [{name: host, mountPath: /host}]}
  containers:
  - {name: main, image: BUSYBOX, command: [sleep, '1000']}
  terminationGracePeriodSeconds: 1
  volumes:
  - {name: host, hostPath: {path: DIR}}
`)
	s := p.Ready()
	want(t, "tries", p.File("tries"), "try\ntry\ntry\n")
	want(t, "restarts", s.Container("init").RestartCount, 2)
}

// completes is a pod that runs to its end: its containers are not started again.
func completes(t *testing.T, n *Node) {
	p := n.Run(t, "completes", `
spec:
  restartPolicy: OnFailure
  containers:
  - {name: good, image: BUSYBOX, command: [sh, -c, 'echo a message > /dev/termination-log']}
  - {name: bad, image: BUSYBOX, command: [sh, -c, 'echo x >> /host/tries; echo try $(wc -l < /host/tries); test $(wc -l < /host/tries) = 2'], terminationMessagePolicy: FallbackToLogsOnError, volumeMounts: [{name: host, mountPath: /host}]}
  volumes:
  - {name: host, hostPath: {path: DIR}}
`)
	s := p.Until("the pod to succeed", func(s *Status) bool { return s.Status.Phase == "Succeeded" })
	good, bad := s.Container("good"), s.Container("bad")
	want(t, "message", good.State.Terminated.Message, "a message\n")
	want(t, "restarts of the good one", good.RestartCount, 0)
	want(t, "restarts of the bad one", bad.RestartCount, 1)
	if bad.LastState.Terminated == nil || bad.LastState.Terminated.ExitCode != 1 || bad.LastState.Terminated.Message != "try 1\n" {
		t.Errorf("the first try ended as %+v", bad.LastState.Terminated)
	}
}

// crashes is a container that never stays.
func crashes(t *testing.T, n *Node) {
	p := n.Run(t, "crashes", `
spec:
  containers:
  - {name: main, image: BUSYBOX, command: [sh, -c, 'echo going; exit 3']}
  - {name: absent, image: BUSYBOX, command: [/no/such/program]}
`)
	s := p.Until("two crashes, and a wait", func(s *Status) bool {
		c := s.Container("main")
		return c.RestartCount >= 2 && c.State.Waiting != nil && c.LastState.Terminated != nil
	})
	c := s.Container("main")
	want(t, "reason", c.State.Waiting.Reason, "CrashLoopBackOff")
	want(t, "exit code", c.LastState.Terminated.ExitCode, 3)
	eventually(t, "the log", func() bool { // of a container that kubelet may be about to remove
		text, err := n.get("/containerLogs/test/" + p.fullName() + "/main")
		return err == nil && text == "going\n"
	})
	s = p.Until("the absent program's restart", func(s *Status) bool { return s.Container("absent").LastState.Terminated != nil })
	last := s.Container("absent").LastState.Terminated
	if last.Reason != "StartError" || !strings.Contains(last.Message, "/no/such/program") {
		t.Errorf("the absent program ended as %+v", last)
	}
}

// ends are hooks, and the time that a container is given to end.
func ends(t *testing.T, n *Node) {
	p := n.Run(t, "ends", `
spec:
  terminationGracePeriodSeconds: 20
  containers:
  - name: main
    image: BUSYBOX
    command: [sh, -c, 'trap "echo signal >> /host/order; sleep 2; echo end >> /host/order; exit" TERM; while :; do sleep 0.1; done']
    lifecycle:
      postStart: {exec: {command: [sh, -c, 'sleep 1; echo postStart >> /host/order']}}
      preStop: {exec: {command: [sh, -c, 'sleep 1; echo preStop >> /host/order']}}
    volumeMounts: [{name: host, mountPath: /host}]
  volumes:
  - {name: host, hostPath: {path: DIR}}
`)
	p.Ready()
	want(t, "order", p.File("order"), "postStart\n")
	p.Remove()
	want(t, "order with the end", p.File("order"), "postStart\npreStop\nsignal\nend\n")
}

// deaf does not end when asked to.
func deaf(t *testing.T, n *Node) {
	p := n.Run(t, "deaf", `
spec:
  terminationGracePeriodSeconds: 3
  containers:
  - name: main
    image: BUSYBOX
    command: [sh, -c, 'trap "echo signal >> /host/order" TERM; while :; do sleep 0.1; done; echo never >> /host/order']
    volumeMounts: [{name: host, mountPath: /host}]
  volumes:
  - {name: host, hostPath: {path: DIR}}
`)
	p.Ready()
	p.Remove()
	want(t, "order", p.File("order"), "signal\n")
}

// changes is a pod whose image and command become others: kubelet starts the container anew.
func changes(t *testing.T, n *Node) {
	const spec = `
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: IMAGE, command: [sleep, '1000']}
`
	p := n.Run(t, "changes", strings.Replace(spec, "IMAGE", "BUSYBOX", 1))
	before := p.Ready().Container("main")
	p.Write(strings.Replace(spec, "IMAGE", "NGINX", 1))
	s := p.Until("the other image", func(s *Status) bool {
		c := s.Container("main")
		return c.State.Running != nil && c.ContainerID != before.ContainerID
	})
	c := s.Container("main")
	if c.ImageID == before.ImageID || !strings.Contains(c.Image, "nginx") {
		t.Errorf("the image is %s (%s), and was %s", c.Image, c.ImageID, before.ImageID)
	}
}
