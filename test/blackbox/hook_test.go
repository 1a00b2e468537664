package blackbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
)

// TestRootStopDuringHook: a stop breaks off a start that waits for a hook without a
// timeout, and the hook with it.
func TestRootStopDuringHook(t *testing.T) {
	d, dir := withCDI(t)
	pid := filepath.Join(dir, "pid")
	var list []string
	kinds := []string{"prestart", "createContainer"}
	for _, kind := range kinds {
		list = append(list, `{"name": "`+kind+`", "containerEdits": {"hooks": [{"hookName": "`+kind+`", "path": "/bin/sh", "args": ["sh", "-c", "echo began > `+pid+`; sleep 1000"], "env": ["PATH=/bin:/usr/bin"]}]}}`)
	}
	devices(t, dir, strings.Join(list, ","))
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("stop")))
	for _, kind := range kinds {
		config := harness.ContainerConfig(kind, "echo it ran")
		config.CDIDevices = []*cri.CDIDevice{{Name: "test.example/kind=" + kind}}
		c := pod.Create(config)
		started := make(chan error, 1)
		go func() {
			_, err := d.Runtime.StartContainer(d.Context(), &cri.StartContainerRequest{ContainerId: c.ID})
			started <- err
		}()
		d.Eventually("the hook", func() bool { _, err := os.Stat(pid); return err == nil })
		check(t, os.Remove(pid))
		begin := time.Now()
		c.Stop(0)
		if err := <-started; err == nil || !strings.Contains(err.Error(), kind+" hook /bin/sh") || !strings.Contains(err.Error(), "being stopped") {
			t.Errorf("%s: the start says %v", kind, err)
		}
		if took := time.Since(begin); took > 20*time.Second {
			t.Errorf("%s: it took %v", kind, took)
		}
		want(t, "state", c.Status().State, cri.ContainerState_CONTAINER_EXITED)
		want(t, "output", c.Output("stdout"), "")
	}
}

// TestRootKeeperKilledDuringHook: the start goes on with the next keeper, and the hooks run
// again, for another process.
func TestRootKeeperKilledDuringHook(t *testing.T) {
	d, dir := withCDI(t)
	log := filepath.Join(dir, "log")
	for _, kind := range []string{"createRuntime", "createContainer"} {
		devices(t, dir, `{"name": "`+kind+`", "containerEdits": {"hooks": [{"hookName": "`+kind+`", "path": "/bin/sh", "args": ["sh", "-c", "echo `+kind+` >> `+log+`; sleep 2"], "env": ["PATH=/bin:/usr/bin"]}]}}`)
		pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("keeper-" + strings.ToLower(kind))))
		config := harness.ContainerConfig("c", "echo it ran; "+harness.Sleep)
		config.CDIDevices = []*cri.CDIDevice{{Name: "test.example/kind=" + kind}}
		c := pod.Create(config)
		started := make(chan error, 1)
		go func() {
			_, err := d.Runtime.StartContainer(d.Context(), &cri.StartContainerRequest{ContainerId: c.ID})
			started <- err
		}()
		d.Eventually("the hook", func() bool { text, _ := os.ReadFile(log); return strings.Contains(string(text), kind) })
		d.KillKeeper()
		check(t, <-started)
		text, err := os.ReadFile(log)
		check(t, err)
		want(t, "runs of "+kind, strings.Count(string(text), kind), 2)
		d.Eventually("the program's line", func() bool { return len(c.Log()) == 1 })
		want(t, "output", c.Output("stdout"), "it ran\n")
		pod.Remove()
	}
}

// TestRootRemovalWaitsForPoststop: a container is gone when its last hook is.
func TestRootRemovalWaitsForPoststop(t *testing.T) {
	d, dir := withCDI(t)
	log := filepath.Join(dir, "log")
	devices(t, dir, `{"name": "slow", "containerEdits": {"hooks": [{"hookName": "poststop", "path": "/bin/sh", "args": ["sh", "-c", "echo began >> `+log+`; sleep 1; test -e config.json && echo ended >> `+log+`"], "env": ["PATH=/bin:/usr/bin"]}]}}`)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("removal")))
	config := harness.ContainerConfig("c", harness.Sleep)
	config.CDIDevices = []*cri.CDIDevice{{Name: "test.example/kind=slow"}}
	c := pod.Run(config)
	c.Stop(0)
	c.Remove()
	text, err := os.ReadFile(log)
	check(t, err)
	want(t, "what the hook did", string(text), "began\nended\n")
}
