package blackbox

import (
	"testing"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

// TestRootRlimits: the configured limits are those of the first process and of execs, in
// both directions from what the daemon has, as far as the node grants it.
func TestRootRlimits(t *testing.T) {
	harness.NeedRoot(t)
	d := harness.Start(t, harness.Options{Registry: bed.Server, Pull: []string{images.Busybox}, Config: "[sandbox]\nrlimits = [\"nofile=77:99\", \"core=0\", \"stack=1048576:unlimited\"]\n"})
	const script = "ulimit -Sn; ulimit -Hn; ulimit -c; ulimit -Ss"
	c := d.RunPod(harness.OnHostNetwork(d.PodConfig("limits"))).Run(harness.ContainerConfig("c", script+"; "+harness.Sleep))
	d.Eventually("four lines", func() bool { return len(c.Log()) == 4 })
	want(t, "limits of the first process", c.Output("stdout"), "77\n99\n0\n1024\n")
	want(t, "limits of an exec", c.Exec(script), "77\n99\n0\n1024")
}
