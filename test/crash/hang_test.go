package crash

import (
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
)

// A keeper that hangs costs what is asked meanwhile some time, and nothing else.
func TestRootKeeperHangs(t *testing.T) {
	d := start(t)
	pod := d.RunPod(d.PodConfig("counting"))
	c := pod.Run(harness.ContainerConfig("counter", counter))
	grows(d, c)
	ip, hung := pod.IP(), d.Keeper()
	d.StopKeeper()
	began := time.Now()
	late := pod.Run(harness.ContainerConfig("late", "sleep 1000"))
	if took := time.Since(began); took > time.Minute {
		t.Errorf("a container that was asked for meanwhile took %v", took)
	}
	if d.Keeper() == hung {
		t.Error("the keeper that hangs is there still")
	}
	want(t, "pod's state", pod.Status().State, cri.PodSandboxState_SANDBOX_READY)
	want(t, "pod's address", pod.IP(), ip)
	want(t, "exec", c.Exec("echo here"), "here")
	want(t, "exec in the late one", late.Exec("echo here"), "here")
	grows(d, c)
	c.Stop(20)
	want(t, "exit code", c.Status().ExitCode, 42)
	noGap(t, c, 100)
}
