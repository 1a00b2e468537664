package blackbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

// steps are what a timeline of crictl's output has, and when each thing began.
func steps(t *testing.T, info any, what string) (names string, last float64) {
	t.Helper()
	for _, e := range dig(t, info, "timeline", what).([]any) {
		at := dig(t, e, "atMicroseconds").(float64)
		if at < last || dig(t, e, "tookMicroseconds").(float64) < 0 {
			t.Errorf("%s: %v comes after one of %v µs", what, e, last)
		}
		names, last = names+dig(t, e, "step").(string)+"\n", at
	}
	return names, last
}

// What crictl users know from other runtimes is there, under the same keys.
func TestRootInspect(t *testing.T) {
	d := start(t)
	pod := d.RunPod(pidMode(d.PodConfig("inspected"), cri.NamespaceMode_POD))
	config := containerPID(harness.ContainerConfig("c", harness.Sleep), cri.NamespaceMode_POD, "")
	config.Envs = []*cri.KeyValue{{Key: "COLOUR", Value: []byte("blue")}}
	c := pod.Create(config)
	inspect := func() any { return dig(t, decode(t, d.MustCrictl("inspect", c.ID)), "info") }
	created := inspect()
	want(t, "pid of a created container", dig(t, created, "pid"), any(0.0))
	if names, _ := steps(t, created, "create"); !strings.Contains(names, "prepare the root file system\n") {
		t.Errorf("what was done to create it:\n%s", names)
	}
	c.Start()
	info := inspect()
	pid := int(dig(t, info, "pid").(float64))
	link, err := os.Readlink(dig(t, info, "namespaces", "network").(string))
	check(t, err)
	pinned, err := os.Stat(dig(t, decode(t, d.MustCrictl("inspectp", pod.ID)), "info", "networkNamespace").(string))
	check(t, err)
	joined, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", pid))
	check(t, err)
	if !os.SameFile(pinned, joined) {
		t.Errorf("the pod's network namespace is not the container's, %s", link)
	}
	want(t, "sandboxID", dig(t, info, "sandboxID"), any(pod.ID))
	want(t, "runtimeHandler", dig(t, info, "runtimeHandler"), any("berth"))
	want(t, "snapshotKey", dig(t, info, "snapshotKey"), any(c.ID))
	cgroup, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	check(t, err)
	if at := dig(t, info, "cgroup").(string); !strings.Contains(string(cgroup), at+"\n") {
		t.Errorf("cgroup is said to be %s, it is\n%s", at, cgroup)
	}
	process := dig(t, info, "runtimeSpec", "process")
	want(t, "command", fmt.Sprint(dig(t, process, "args")), fmt.Sprint(config.Command))
	if env := fmt.Sprint(dig(t, process, "env")); !strings.Contains(env, "COLOUR=blue") {
		t.Errorf("environment %s", env)
	}
	names, last := steps(t, info, "start")
	for _, step := range []string{"make the cgroup", "launch", "fork", "mount proc on /proc", "make the root file system the root", `execute "sh"`, "tell the daemon"} {
		if !strings.Contains(names, step+"\n") {
			t.Errorf("no %q in the timeline of the start:\n%s", step, names)
		}
	}
	if last < 100 || last > 30e6 {
		t.Errorf("the start took %v µs", last)
	}
	sandbox := dig(t, decode(t, d.MustCrictl("inspectp", pod.ID)), "info")
	first, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", int(dig(t, sandbox, "pid").(float64))))
	check(t, err)
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	check(t, err)
	want(t, "PID namespace of the pod's process", first, own)
	want(t, "path of the PID namespace", strings.HasSuffix(dig(t, sandbox, "namespaces", "pid").(string), "/ns/pid"), true)
	if names, _ := steps(t, sandbox, "run"); !strings.Contains(names, "attach to the network\n") || !strings.Contains(names, "start the pause process\n") {
		t.Errorf("what was done to run the pod:\n%s", names)
	}
	image := dig(t, decode(t, d.MustCrictl("inspecti", images.Busybox)), "info")
	want(t, "image's architecture", dig(t, image, "imageSpec", "architecture") != nil, true)
	want(t, "chainID", strings.HasPrefix(dig(t, image, "chainID").(string), "sha256:"), true)
	node := decode(t, d.MustCrictl("info"))
	want(t, "Go's version", strings.HasPrefix(dig(t, node, "golang").(string), "go1."), true)
	want(t, "state of the network", dig(t, node, "lastCNILoadStatus"), any("OK"))
	format := dig(t, node, "layerFormat").(string)
	want(t, "what layers are made as, "+format, format == "erofs" || strings.HasPrefix(format, "directory: "), true)
	measured := dig(t, node, "writableLayers").(string)
	want(t, "how writable layers are measured, "+measured, strings.HasPrefix(measured, "project quotas, in user namespaces") || strings.HasPrefix(measured, "walking: no project quotas"), true)

	d.Eventually("the timeline to be on disk", func() bool {
		_, err := os.Stat(filepath.Join(d.State, "pods", pod.ID, "programs", c.ID+".gz"))
		return err == nil
	})
	d.Kill()
	d.Restart()
	again := inspect()
	then, _ := steps(t, again, "start")
	want(t, "timeline of the start that the next daemon shows", then, names)
	want(t, "pid that the next daemon shows", dig(t, again, "pid"), any(float64(pid)))
	c.Stop(0)
	want(t, "pid of one that has exited", dig(t, inspect(), "pid"), any(0.0))
}
