package blackbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

// explain runs berth explain against the daemon and returns what it prints on both outputs.
func explain(d *harness.Daemon, args ...string) (string, error) {
	out, err := d.Command(append([]string{"explain", "--socket", d.Socket}, args...)...).CombinedOutput()
	return string(out), err
}

func TestRootExplain(t *testing.T) {
	d := start(t)
	pod := d.RunPod(pidMode(d.PodConfig("explained"), cri.NamespaceMode_POD))
	config := containerPID(harness.ContainerConfig("c", "exit 3"), cri.NamespaceMode_POD, "")
	config.Envs = []*cri.KeyValue{{Key: "SECRET", Value: []byte("hunter2")}}
	config.Mounts = []*cri.Mount{{HostPath: t.TempDir(), ContainerPath: "/data"}}
	c := pod.Create(config)
	if out, err := explain(d, c.ID); err == nil || !strings.Contains(out, "has not been started") {
		t.Errorf("a container that has not been started: %v %s", err, out)
	}
	c.Start()
	c.Wait()
	out, err := explain(d, c.ID[:10])
	check(t, err)
	for _, want := range []string{
		"container: " + c.ID + ", c of pod test/explained, image registry.k8s.io/e2e-test-images/busybox:1.29-2",
		"launched: 2", "process ", "slots: ", "root", "clone: ",
		"create: when each thing began", "prepare the root file system", "start: when each thing began", "hand the program to the keeper", "  fork\n", "  make the root file system the root\n",
		"pivot_root", "# mount proc on /proc", "move_mount(<mount /data>", `execve("/bin/sh", 3 arguments`, `# execute "sh"`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in what is explained:\n%s", want, out)
		}
	}
	checkTimes(t, out)
	if strings.Contains(out, "hunter2") || strings.Contains(out, "exit 3") {
		t.Errorf("environment or arguments are shown:\n%s", out)
	}
	pods, err := explain(d, "--pod", pod.ID)
	check(t, err)
	for _, want := range []string{"run: when each thing began", "attach to the network", "pod: " + pod.ID + ", test/explained: its namespaces", "clone: new ", "PID 1 of its PID namespace", "execveat(<binary>"} {
		if !strings.Contains(pods, want) {
			t.Errorf("no %q in what is explained of the pod:\n%s", want, pods)
		}
	}
	either, err := explain(d, pod.ID)
	check(t, err)
	want(t, "what is explained of a pod's id without --pod", either, pods)
	d.Eventually("the program to be some seconds old and written", func() bool {
		_, err := os.Stat(filepath.Join(d.State, "pods", pod.ID, "programs", c.ID+".gz"))
		return err == nil
	})
	d.Kill() // what a container got does not depend on who says it
	d.Restart()
	again, err := explain(d, c.ID)
	check(t, err)
	want(t, "what the next daemon explains", again, out)
	c.Remove()
	if out, err := explain(d, c.ID); err == nil || !strings.Contains(out, "not found") {
		t.Errorf("a removed container: %v %s", err, out)
	}
	if _, err := explain(d, "--pod", "no-such-pod"); err == nil {
		t.Error("an unknown pod is explained")
	} else if e := new(exec.ExitError); !asExit(err, &e) || e.ExitCode() != 1 {
		t.Errorf("an unknown pod: %v", err)
	}
}

// stepTime matches the line of a step: when it began and how long it took, or "-", then its number.
var stepTime = regexp.MustCompile(`(?m)^( *[0-9.]* +[-0-9.]+)  ( *[0-9]+  [a-z])`)

// checkTimes looks for the times of the steps: one for each that was done, in order, the last but some milliseconds later.
func checkTimes(t *testing.T, explained string) {
	t.Helper()
	_, program, _ := strings.Cut(explained, "slots: ")
	last, first, timed := 0.0, 0.0, 0
	for _, m := range stepTime.FindAllStringSubmatch(program, -1) {
		f := strings.Fields(m[1])
		if len(f) < 2 {
			continue // skipped
		}
		at, err := strconv.ParseFloat(f[0], 64)
		check(t, err)
		took, err := strconv.ParseFloat(f[1], 64)
		check(t, err)
		if at < last || took < 0 {
			t.Errorf("a step began at %v µs and took %v, the one before it began at %v", at, took, last)
		}
		if timed++; timed == 1 {
			first = at
		}
		last = at
	}
	if timed < 60 || first <= 0 || last-first > 10e6 {
		t.Errorf("%d steps have times, from %v to %v µs:\n%s", timed, first, last, program)
	}
}

func asExit(err error, to **exec.ExitError) bool {
	e, ok := err.(*exec.ExitError)
	*to = e
	return ok
}

func TestRootExplainFailedStart(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("failed")))
	config := harness.ContainerConfig("c", "")
	config.Command = []string{"/no/such/program"}
	c := pod.Create(config)
	if _, err := d.Runtime.StartContainer(d.Context(), &cri.StartContainerRequest{ContainerId: c.ID}); err == nil {
		t.Fatal("it started")
	}
	out, err := explain(d, c.ID)
	check(t, err)
	if !strings.Contains(out, "failed ") || !strings.Contains(out, `execute "/no/such/program": no such file or directory`) {
		t.Errorf("what is explained of a start that failed:\n%s", out)
	}
}

// Steps and mounts must not grow with the layers of an image: the root comes as one mount.
func TestRootStepsDoNotGrowWithLayers(t *testing.T) {
	harness.NeedRoot(t)
	tall, err := bed.builder.Tall(40)
	check(t, err)
	check(t, bed.Push(tall))
	few, many := images.Busybox, tall.Refs[0]
	d := start(t, few, many)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("layers")))
	var steps, mounts []string
	for i, image := range []string{few, many} {
		config := harness.ContainerConfig(fmt.Sprint("c", i), "grep -c . /proc/self/mountinfo; cat /layer-39 2>/dev/null; true")
		config.Image.Image = image
		c := pod.Run(config)
		c.Wait()
		out, err := explain(d, c.ID)
		check(t, err)
		_, program, _ := strings.Cut(out, "slots: ")
		program = stepTime.ReplaceAllString(program, "$2")
		steps = append(steps, regexp.MustCompile(`/[^ "<>]*berth-test[^ "<>]*`).ReplaceAllString(program, "PATH"))
		count, _, _ := strings.Cut(c.Output("stdout"), "\n")
		mounts = append(mounts, count)
		if i == 1 && !strings.HasSuffix(c.Output("stdout"), "39\n") {
			t.Errorf("the last layer's file is not there: %q", c.Output("stdout"))
		}
	}
	want(t, "number of mounts with 41 layers", mounts[1], mounts[0])
	want(t, "program with 41 layers", steps[1], steps[0])
}
