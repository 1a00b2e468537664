package blackbox

import (
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
)

// onTerminal gives a container a terminal and somebody to type.
func onTerminal(script string) *cri.ContainerConfig {
	config := harness.ContainerConfig("terminal", script)
	config.Tty, config.Stdin = true, true
	return config
}

func TestRootTerminal(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("terminal")))
	c := pod.Run(onTerminal(`tty; for fd in 0 1 2; do readlink /proc/$$/fd/$fd; done
echo to console >/dev/console; echo to tty >/dev/tty; echo to stderr >&2; echo $TERM
cat /proc/self/stat | awk '{print "controlling", $7 != 0}'`))
	want(t, "exit code", c.Wait().ExitCode, 0)
	want(t, "output", c.Output("stdout"), strings.ReplaceAll("/dev/pts/0\n/dev/pts/0\n/dev/pts/0\n/dev/pts/0\nto console\nto tty\nto stderr\nxterm\ncontrolling 1\n", "\n", "\r\n"))
	want(t, "output on stderr", c.Output("stderr"), "")
}

// TestRootTerminalOfAnotherUser looks whether a user who is not root can open its
// terminal again, in a user namespace too.
func TestRootTerminalOfAnotherUser(t *testing.T) {
	d := start(t)
	script := `stat -c '%u %g' /dev/pts/0; echo again >/dev/pts/0; ls /dev/pts | cat; exit 3`
	for name, inside := range map[string]bool{"on-host": false, "in-namespace": true} {
		config, c := d.PodConfig(name), onTerminal(script)
		if inside {
			ids := []*cri.IDMapping{{HostId: 300000, Length: 65536}}
			user := &cri.UserNamespace{Mode: cri.NamespaceMode_POD, Uids: ids, Gids: ids}
			config.Linux.SecurityContext.NamespaceOptions.UsernsOptions = user
			c.Linux.SecurityContext.NamespaceOptions.UsernsOptions = user
		}
		c.Linux.SecurityContext.RunAsUser = &cri.Int64Value{Value: 1000}
		pod := d.RunPod(config)
		run := pod.Run(c)
		want(t, name+": exit code", run.Wait().ExitCode, 3)
		want(t, name+": output", run.Output("stdout"), "1000 5\r\nagain\r\n0\r\nptmx\r\n")
	}
}
