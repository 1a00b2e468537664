package kubelet

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/images"
)

// Pod is a static pod that a test runs.
type Pod struct {
	t    testing.TB
	node *Node
	name string // in its manifest; kubelet appends the node's
	dir  string // a directory of the host's that it may have as a volume
}

// Status is what kubelet says of a pod: the part of v1.Pod that tests look at.
type Status struct {
	Metadata struct{ Name, UID string }
	Spec     struct {
		Containers []struct{ Name string }
	}
	Status struct {
		Phase, Reason, Message string
		HostIP, PodIP          string
		PodIPs                 []struct{ IP string }
		Conditions             []struct{ Type, Status, Reason, Message string }
		InitContainerStatuses  []ContainerStatus
		ContainerStatuses      []ContainerStatus
	}
}

// ContainerStatus is that of one container.
type ContainerStatus struct {
	Name, ContainerID, Image, ImageID string
	Ready                             bool
	Started                           *bool
	RestartCount                      int
	State, LastState                  ContainerState
	Resources                         *struct{ Limits, Requests map[string]string }
}

// ContainerState has one of its three.
type ContainerState struct {
	Waiting    *struct{ Reason, Message string }
	Running    *struct{ StartedAt time.Time }
	Terminated *struct {
		ExitCode        int
		Reason, Message string
	}
}

// Run gives kubelet a pod until the test ends. In the spec, YAML from "spec:" on, BUSYBOX, NGINX and HEALTH are images and DIR is a
// directory of the host's.
func (n *Node) Run(t testing.TB, name, spec string) *Pod {
	t.Helper()
	p := &Pod{t: t, node: n, name: name, dir: filepath.Join(n.Dir, "host", name)}
	p.must(os.MkdirAll(p.dir, 0o777))
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := json.MarshalIndent(p.Status(), "", " ") // of strings and numbers
			t.Logf("pod %s is %s", name, text)
		}
		p.Remove()
	})
	p.Write(spec)
	return p
}

// Write gives kubelet the pod's manifest, or another one. Its uid stays, so that kubelet changes the pod it has.
func (p *Pod) Write(spec string) {
	p.t.Helper()
	head := fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata:\n  name: %s\n  namespace: test\n  uid: %s\n  labels: {app: %[1]s}\n  annotations: {note: of %[1]s}\n", p.name, p.uid())
	text := strings.NewReplacer("BUSYBOX", images.Busybox, "NGINX", images.Nginx, "HEALTH", images.Health, "DIR", p.dir).Replace(head + strings.TrimSpace(spec) + "\n")
	// Names that begin with a dot are none of kubelet's: it sees whole files only.
	temporary := filepath.Join(p.node.Dir, "manifests", "."+p.name)
	p.must(os.WriteFile(temporary, []byte(text), 0o644))
	p.must(os.Rename(temporary, p.manifest()))
}

func (p *Pod) manifest() string { return filepath.Join(p.node.Dir, "manifests", p.name+".yaml") }
func (p *Pod) uid() string      { return p.node.Daemon.Name + "-" + p.name }
func (p *Pod) fullName() string { return p.name + "-" + nodeName }

// Remove takes the pod from kubelet, and waits until it has no container any more. It may be called twice.
func (p *Pod) Remove() {
	p.t.Helper()
	if err := os.Remove(p.manifest()); err != nil && !os.IsNotExist(err) {
		p.t.Error(err)
	}
	eventually(p.t, "pod "+p.name+" to end", func() bool { return p.Status() == nil && p.over() })
}

// over says whether the runtime has neither the pod's network nor a running container of it: kubelet's API forgets a pod
// that is taken away at once.
func (p *Pod) over() bool {
	p.t.Helper()
	mine := map[string]string{"io.kubernetes.pod.uid": p.uid()}
	d := p.node.Daemon
	pods, err := d.Runtime.ListPodSandbox(d.Context(), &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{
		LabelSelector: mine, State: &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_READY},
	}})
	p.must(err)
	containers, err := d.Runtime.ListContainers(d.Context(), &cri.ListContainersRequest{Filter: &cri.ContainerFilter{
		LabelSelector: mine, State: &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING},
	}})
	p.must(err)
	return len(pods.Items) == 0 && len(containers.Containers) == 0
}

// Status is the pod's as kubelet has it, nil when it has no such pod.
func (p *Pod) Status() *Status {
	p.t.Helper()
	var list struct{ Items []Status }
	text, err := p.node.get("/pods")
	if err == nil {
		err = json.Unmarshal([]byte(text), &list)
	}
	if err != nil {
		p.t.Fatalf("list pods: %v", err)
	}
	for _, s := range list.Items {
		if s.Metadata.Name == p.fullName() {
			return &s
		}
	}
	return nil
}

// Until waits until is says so of the pod's status, and returns that.
func (p *Pod) Until(what string, is func(*Status) bool) *Status {
	p.t.Helper()
	var s *Status
	eventually(p.t, what, func() bool {
		s = p.Status()
		return s != nil && is(s)
	})
	return s
}

// Ready waits until the pod is.
func (p *Pod) Ready() *Status {
	p.t.Helper()
	return p.Until("pod "+p.name+" to be ready", func(s *Status) bool { return s.condition("Ready") })
}

func (s *Status) condition(name string) bool {
	for _, c := range s.Status.Conditions {
		if c.Type == name {
			return c.Status == "True"
		}
	}
	return false
}

// Container is the status of a container, the zero value before there is any.
func (s *Status) Container(name string) ContainerStatus {
	for _, c := range append(s.Status.InitContainerStatuses, s.Status.ContainerStatuses...) {
		if c.Name == name {
			return c
		}
	}
	return ContainerStatus{}
}

// File is what the pod wrote to a file of its directory of the host's, "" when there is none.
func (p *Pod) File(name string) string {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, name))
	if err != nil && !os.IsNotExist(err) {
		p.t.Fatal(err)
	}
	return string(text)
}

func (p *Pod) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// want compares what a test saw with what it expects.
func want[T comparable](t testing.TB, what string, got, expected T) {
	t.Helper()
	if got != expected {
		t.Errorf("%s is %v, wanted %v", what, got, expected)
	}
}

// let makes a file in the pod's directory of the host's.
func (p *Pod) let(name string) {
	p.t.Helper()
	p.must(os.WriteFile(filepath.Join(p.dir, name), nil, 0o644))
}

// has says whether there is such a file.
func (p *Pod) has(name string) bool {
	_, err := os.Stat(filepath.Join(p.dir, name))
	return err == nil
}

// unlisted takes the pod's manifest away, and waits for nothing.
func (p *Pod) unlisted() {
	p.t.Helper()
	p.must(os.Remove(p.manifest()))
}
