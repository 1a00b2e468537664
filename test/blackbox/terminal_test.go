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

// TestRootTerminalUnderVolume has a volume where the container's devpts would be:
// its terminal is one of the host's.
func TestRootTerminalUnderVolume(t *testing.T) {
	d := start(t)
	config := harness.OnHostNetwork(d.PodConfig("volume"))
	config.Linux.SecurityContext.Privileged = true
	pod := d.RunPod(config)
	c := onTerminal(`test -t 0 && test -t 1 && echo terminal; echo again >/dev/tty; exit 3`)
	c.Linux.SecurityContext.Privileged = true
	c.Mounts = []*cri.Mount{{HostPath: "/dev", ContainerPath: "/dev"}}
	run := pod.Run(c)
	want(t, "exit code", run.Wait().ExitCode, 3)
	want(t, "output", run.Output("stdout"), "terminal\r\nagain\r\n")
}

// TestRootExecTerminalInUserNamespace looks whether the user of an exec can open its
// terminal by name.
func TestRootExecTerminalInUserNamespace(t *testing.T) {
	d := start(t)
	config, c := d.PodConfig("mapped"), harness.ContainerConfig("main", harness.Sleep)
	ids := []*cri.IDMapping{{HostId: 300000, Length: 65536}}
	user := &cri.UserNamespace{Mode: cri.NamespaceMode_POD, Uids: ids, Gids: ids}
	config.Linux.SecurityContext.NamespaceOptions.UsernsOptions = user
	c.Linux.SecurityContext.NamespaceOptions.UsernsOptions = user
	c.Linux.SecurityContext.RunAsUser = &cri.Int64Value{Value: 1000}
	run := d.RunPod(config).Run(c)
	s := sit(t, d, "exec", "-it", run.ID, "sh", "-c", "tty; stat -c %u:%g $(tty); echo again >$(tty)")
	s.shows(`/dev/pts/0\r\n1000:5\r\nagain`)
	want(t, "crictl's exit code", s.exits(), 0)
}
