package blackbox

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A shell on a terminal goes on after a checkpoint, and on the terminal of the container that is restored, with what it was told and the
// terminal's settings; the restored one can be checkpointed again.
func TestRootRestoreTerminal(t *testing.T) {
	d := withCRIU(t)
	pod := d.RunPod(d.PodConfig("origin"))
	config := onTerminal("exec sh")
	c := pod.Run(config)
	s := sit(t, d, "attach", "-it", c.ID)
	s.types("x=kept; stty -echo; echo to\"ld\"\n")
	s.shows(`told`)
	location := checkpointTo(t, d, c)
	s.types("echo $x by the checkpoint\n")
	s.shows(`kept by the checkpoint`)
	settings := c.Exec("stty -F /dev/console -g")

	config.Image.Image = location
	there := d.RunPod(d.PodConfig("there"))
	restored := there.Run(config)
	want(t, "mounts", restored.Exec(mounts), c.Exec(mounts))
	want(t, "settings of the terminal", restored.Exec("stty -F /dev/console -g"), settings)
	s = sit(t, d, "attach", "-it", restored.ID)
	s.types("echo $x by the restore; stty size; echo to console > /dev/console; echo to tty > /dev/tty; ps -o tty,pid | grep -w 1\n")
	s.shows(`kept by the restore\r\n30 100\r\nto console\r\nto tty\r\n136,0 +1`)
	want(t, "a write to the first one's", strings.Contains(c.Output("stdout"), "by the restore"), false)

	config.Image.Image = checkpointTo(t, d, restored)
	config.Metadata.Name = "again"
	again := there.Run(config)
	s = sit(t, d, "attach", "-it", again.ID)
	s.types("echo $x again; exit 6\n")
	s.shows(`kept again`)
	s.exits()
	want(t, "exit code", again.Wait().ExitCode, 6)
	if log := again.Output("stdout"); !strings.Contains(log, "kept again\r\n") || strings.Contains(log, "echo $x") {
		t.Errorf("the log of the last one: %q", log)
	}

	config.Tty, config.Metadata.Name = false, "without"
	_, err := d.Runtime.CreateContainer(t.Context(), &cri.CreateContainerRequest{PodSandboxId: there.ID, Config: config, SandboxConfig: there.Config})
	wantError(t, err, codes.FailedPrecondition, "terminal")
}
