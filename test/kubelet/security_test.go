package kubelet

import (
	"os"
	"strings"
	"testing"
)

func readlink(t *testing.T, path string) string {
	t.Helper()
	target, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// secured is what a security context has.
func secured(t *testing.T, n *Node) {
	p := n.Run(t, "secured", `
spec:
  terminationGracePeriodSeconds: 1
  shareProcessNamespace: true
  securityContext: {runAsUser: 1234, runAsGroup: 2345, supplementalGroups: [3456], runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: main
    image: BUSYBOX
    command: [sleep, '1000']
    securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}}
  - name: privileged
    image: BUSYBOX
    command: [sleep, '1000']
    securityContext: {privileged: true, runAsUser: 0, runAsNonRoot: false}
  - {name: refused, image: BUSYBOX, command: [sleep, '1000'], securityContext: {runAsUser: 0}}
`)
	p.Until("two containers", func(s *Status) bool {
		return s.Container("main").State.Running != nil && s.Container("privileged").State.Running != nil
	})
	want(t, "ids", p.Exec("main", "id -u; id -g; id -G"), "1234\n2345\n2345 3456")
	want(t, "what init is", p.Exec("main", "grep -E 'NoNewPrivs|Seccomp:|CapBnd' /proc/self/status | tr -s '\t ' ' '"),
		"CapBnd: 0000000000000400\nNoNewPrivs: 1\nSeccomp: 2")
	if out, err := p.TryExec("main", "", "touch", "/x"); err == nil || !strings.Contains(out, "Read-only file system") {
		t.Errorf("touch /x: %v, %s", err, out)
	}
	if text := p.Exec("privileged", "ps -o comm"); strings.Count(text, "sleep") != 2 {
		t.Errorf("the processes are not shared:\n%s", text)
	}
	want(t, "device", p.Exec("privileged", "test -c /dev/kmsg && echo there"), "there")
	s := p.Until("the refusal", func(s *Status) bool { return s.Container("refused").State.Waiting != nil })
	want(t, "reason", s.Container("refused").State.Waiting.Reason, "CreateContainerConfigError")
}

// mapped is a pod with users of its own, and volumes that it sees as its own.
func mapped(t *testing.T, n *Node) {
	p := n.Run(t, "mapped", `
spec:
  terminationGracePeriodSeconds: 1
  hostUsers: false
  securityContext: {fsGroup: 4321}
  containers:
  - name: main
    image: BUSYBOX
    command: [sleep, '1000']
    volumeMounts: [{name: disk, mountPath: /disk}, {name: down, mountPath: /down}]
    readinessProbe: {exec: {command: ['true']}, periodSeconds: 1, timeoutSeconds: 10}
  volumes:
  - {name: disk, emptyDir: {}}
  - {name: down, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
`)
	p.Ready()
	want(t, "user", p.Exec("main", "id -u"), "0")
	f := strings.Fields(p.Exec("main", "cat /proc/self/uid_map"))
	if len(f) != 3 || f[0] != "0" || f[1] == "0" || f[2] != "65536" {
		t.Errorf("the mapping is %q", f)
	}
	want(t, "owner of a file", p.Exec("main", "touch /disk/x; stat -c '%u %g' /disk/x"), "0 4321")
	want(t, "labels", p.Exec("main", "cat /down/labels"), `app="mapped"`)
}
