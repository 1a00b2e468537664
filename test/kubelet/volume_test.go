package kubelet

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// volumes are those that a pod may have without a control plane: for projected ones kubelet wants one.
func volumes(t *testing.T, n *Node) {
	p := n.Run(t, "volumes", `
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {fsGroup: 4321}
  containers:
  - name: one
    image: BUSYBOX
    command: [sleep, '1000']
    resources: {requests: {cpu: 20m}}
    env: [{name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
    volumeMounts:
    - {name: disk, mountPath: /disk}
    - {name: memory, mountPath: /memory}
    - {name: host, mountPath: /host}
    - {name: host, mountPath: /ro, readOnly: true, recursiveReadOnly: IfPossible}
    - {name: host, mountPath: /sub, subPath: a/b}
    - {name: host, mountPath: /expr, subPathExpr: $(NAME)}
    - {name: file, mountPath: /etc/one.conf}
    - {name: down, mountPath: /down}
    - {name: image, mountPath: /image}
    - {name: image, mountPath: /passwd-of-image, subPath: etc}
  - name: two
    image: BUSYBOX
    command: [sleep, '1000']
    volumeMounts: [{name: disk, mountPath: /disk, readOnly: true}]
  volumes:
  - {name: disk, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 8Mi}}
  - {name: host, hostPath: {path: DIR, type: Directory}}
  - {name: file, hostPath: {path: DIR/one.conf, type: FileOrCreate}}
  - name: down
    downwardAPI:
      items:
      - {path: labels, fieldRef: {fieldPath: metadata.labels}}
      - {path: note, fieldRef: {fieldPath: 'metadata.annotations[''note'']'}}
      - {path: cpu, resourceFieldRef: {containerName: one, resource: requests.cpu, divisor: 1m}}
  - {name: image, image: {reference: NGINX, pullPolicy: IfNotPresent}}
`)
	p.Ready()
	p.Exec("one", "echo shared > /disk/x; echo sub > /sub/x; echo expr > /expr/x; echo one > /etc/one.conf")
	want(t, "the other container's", p.Exec("two", "cat /disk/x"), "shared")
	want(t, "of a sub path", p.File("a/b/x"), "sub\n")
	want(t, "of a sub path by name", p.File("volumes-node/x"), "expr\n")
	want(t, "a single file", p.File("one.conf"), "one\n")
	want(t, "labels", p.Exec("one", "cat /down/labels"), `app="volumes"`)
	want(t, "annotation", p.Exec("one", "cat /down/note /down/cpu"), "of volumes20")
	want(t, "group of an emptyDir", p.Exec("one", "stat -c '%g %A' /disk"), "4321 drwxrwsrwx")
	want(t, "groups", strings.Contains(p.Exec("one", "id -G"), "4321"), true)
	want(t, "kind of the memory one", p.Exec("one", "stat -f -c %T /memory; df -k /memory | tail -n 1 | tr -s ' ' | cut -d' ' -f2"), "tmpfs\n8192")
	want(t, "a program of the image", p.Exec("one", "test -x /image/usr/sbin/nginx && ls /passwd-of-image/passwd"), "/passwd-of-image/passwd")
	for _, dir := range []string{"/ro", "/image", "/passwd-of-image"} {
		if out, err := p.TryExec("one", "", "touch", dir+"/x"); err == nil || !strings.Contains(out, "Read-only file system") {
			t.Errorf("touch in %s: %v, %s", dir, err, out)
		}
	}
	if out, err := p.TryExec("two", "", "touch", "/disk/x"); err == nil || !strings.Contains(out, "Read-only file system") {
		t.Errorf("touch in the read-only emptyDir: %v, %s", err, out)
	}
}

// missing is a directory of the host's that is not there, and an image that is nowhere: the pod waits, and runs when they are.
func missing(t *testing.T, n *Node) {
	p := n.Run(t, "missing", `
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: BUSYBOX, command: [sleep, '1000'], volumeMounts: [{name: host, mountPath: /host, subPath: later}]}
  - {name: image, image: registry.k8s.io/no/such:image, command: [sleep, '1000']}
  volumes:
  - {name: host, hostPath: {path: DIR}}
`)
	s := p.Until("the image to be missed", func(s *Status) bool {
		w := s.Container("image").State.Waiting
		return w != nil && strings.HasPrefix(w.Reason, "ErrImagePull") || w != nil && w.Reason == "ImagePullBackOff"
	})
	if w := s.Container("image").State.Waiting; !strings.Contains(w.Message, "no/such") {
		t.Errorf("the message is %q", w.Message)
	}
	p.Until("the other container", func(s *Status) bool { return s.Container("main").State.Running != nil })
	if _, err := os.Stat(filepath.Join(p.dir, "later")); err != nil {
		t.Error(err)
	}
}
