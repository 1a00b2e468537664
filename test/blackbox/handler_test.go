package blackbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
	"github.com/berth-runtime/berth/test/runtimes"
)

// withRuntimes runs a daemon that has crun and runc as handlers.
func withRuntimes(t *testing.T) *harness.Daemon {
	t.Helper()
	harness.NeedRoot(t)
	config := ""
	for _, name := range runtimes.Names {
		path, err := runtimes.Path(name)
		if err != nil {
			t.Fatal(err)
		}
		config += fmt.Sprintf("[runtimes.%s]\npath = %q\n", name, path)
	}
	return harness.Start(t, harness.Options{Registry: bed.Server, Pull: []string{images.Busybox}, Config: config})
}

func TestRootHandlerLife(t *testing.T) {
	d := withRuntimes(t)
	for _, handler := range runtimes.Names {
		pod := d.RunPodBy(handler, d.PodConfig(handler))
		want(t, "handler in the pod's status", pod.Status().RuntimeHandler, handler)
		ends := pod.Run(harness.ContainerConfig("ends", "echo out; echo err >&2; exit 7"))
		s := ends.Wait()
		want(t, handler+": exit code", s.ExitCode, 7)
		want(t, handler+": output", ends.Output("stdout"), "out\n")
		want(t, handler+": errors", ends.Output("stderr"), "err\n")

		config := harness.ContainerConfig("runs", "echo begun; "+harness.Sleep)
		volume := t.TempDir()
		config.Mounts = []*cri.Mount{{HostPath: volume, ContainerPath: "/data"}}
		config.Linux.SecurityContext.Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
		config.Linux.SecurityContext.MaskedPaths, config.Linux.SecurityContext.ReadonlyPaths = []string{"/proc/kcore", "/sys/firmware"}, []string{"/proc/sys"}
		config.Linux.Resources = &cri.LinuxContainerResources{CpuShares: 512, MemoryLimitInBytes: 64 << 20, CpuPeriod: 100000, CpuQuota: 50000}
		c := pod.Run(config)
		want(t, handler+": hostname", c.Exec("hostname"), handler)
		want(t, handler+": seccomp", c.Exec("grep Seccomp: /proc/self/status | tr -d '\\t'"), "Seccomp:2")
		want(t, handler+": address", strings.Contains(c.Exec("ip addr show eth0"), pod.IP()), true)
		want(t, handler+": shared memory", c.Exec("grep -c ' /dev/shm tmpfs' /proc/mounts"), "1")
		c.Exec("echo written > /data/file; echo x > /dev/shm/x")
		text, err := os.ReadFile(filepath.Join(volume, "file"))
		check(t, err)
		want(t, handler+": what is in the volume", string(text), "written\n")
		r, err := c.TryExec(20, "sh", "-c", "echo to both; echo sides >&2; exit 5")
		check(t, err)
		want(t, handler+": exec", fmt.Sprint(string(r.Stdout), string(r.Stderr), " ", r.ExitCode), "to both\nsides\n 5")
		_, err = c.TryExec(1, "sleep", "1234")
		wantError(t, err, codes.DeadlineExceeded, "no end after")
		d.Eventually("the command that took too long to be gone", func() bool { return !strings.Contains(c.Exec("ps"), "sleep 1234") })
		out, err := explain(d, c.ID)
		check(t, err)
		for _, w := range []string{"new mount", "/rootfs", "execve(", " create --bundle="} {
			if !strings.Contains(out, w) {
				t.Errorf("%s: no %q in what is explained:\n%s", handler, w, out)
			}
		}
		hostMounts, err := os.ReadFile("/proc/self/mountinfo")
		check(t, err)
		if strings.Contains(string(hostMounts), c.ID) {
			t.Errorf("%s: the container is in the host's mount table", handler)
		}
		c.Stop(20)
		want(t, handler+": exit code of one that ends on SIGTERM", c.Status().ExitCode, 0)
		c.Remove()
		killed := pod.Run(harness.ContainerConfig("killed", "trap '' TERM; while :; do sleep 0.1; done"))
		killed.Stop(0)
		want(t, handler+": exit code of a killed one", killed.Status().ExitCode, 137)
		pod.Remove()
		left, err := filepath.Glob(filepath.Join(d.State, "runtimes", handler, "*"))
		check(t, err)
		if len(left) != 0 {
			t.Errorf("%s keeps %q", handler, left)
		}
	}
}

// The life of a container does not depend on the daemon's or the keeper's.
func TestRootHandlerSurvivesDaemonAndKeeper(t *testing.T) {
	d := withRuntimes(t)
	for _, handler := range runtimes.Names {
		pod := d.RunPodBy(handler, harness.OnHostNetwork(d.PodConfig(handler)))
		script := "i=0; while [ ! -e /end ]; do echo line $i; i=$((i+1)); sleep 0.02; done; exit 9"
		c := pod.Run(harness.ContainerConfig("c", script))
		d.Kill()
		d.Restart()
		d.KillKeeper()
		want(t, handler+": state", c.Status().State, cri.ContainerState_CONTAINER_RUNNING)
		c.Exec("(sleep 1; touch /end) >/dev/null 2>&1 &") // the container's end would end who touched it, too
		if code := c.Wait().ExitCode; harness.ExitsOutliveKeepers() {
			want(t, handler+": exit code", code, 9)
		}
		for i, line := range strings.Split(strings.TrimSpace(c.Output("stdout")), "\n") {
			want(t, handler+": line of the log", line, fmt.Sprint("line ", i))
		}
	}
}

func TestRootHandlerSharedPIDAndTarget(t *testing.T) {
	d := withRuntimes(t)
	for _, handler := range runtimes.Names {
		pod := d.RunPodBy(handler, harness.OnHostNetwork(pidMode(d.PodConfig(handler), cri.NamespaceMode_POD)))
		a := pod.Run(containerPID(harness.ContainerConfig("a", "exec sleep 1111"), cri.NamespaceMode_POD, ""))
		b := pod.Run(containerPID(harness.ContainerConfig("b", "exec sleep 2222"), cri.NamespaceMode_POD, ""))
		d.Eventually("both to be seen", func() bool {
			ps := b.Exec("ps")
			return strings.Contains(ps, "sleep 1111") && strings.Contains(ps, "sleep 2222")
		})
		a.Stop(0)
		want(t, handler+": state of the other", b.Status().State, cri.ContainerState_CONTAINER_RUNNING)
	}
}

func TestRootHandlerRefusals(t *testing.T) {
	d := withRuntimes(t)
	_, err := d.Runtime.RunPodSandbox(d.Context(), &cri.RunPodSandboxRequest{Config: d.PodConfig("x"), RuntimeHandler: "kata"})
	wantError(t, err, codes.InvalidArgument, "runtime_handler", "kata", "is no runtime handler of this node")
	for _, handler := range runtimes.Names {
		config := d.PodConfig("users-" + handler)
		config.Linux.SecurityContext.NamespaceOptions.UsernsOptions = userNamespace()
		_, err := d.Runtime.RunPodSandbox(d.Context(), &cri.RunPodSandboxRequest{Config: config, RuntimeHandler: handler})
		wantError(t, err, codes.InvalidArgument, "userns_options", "is not possible with runtime handler", handler)
		pod := d.RunPodBy(handler, harness.OnHostNetwork(d.PodConfig(handler)))
		missing := harness.ContainerConfig("missing", "")
		missing.Command = []string{"/no/such/program"}
		c := pod.Create(missing)
		_, err = d.Runtime.StartContainer(d.Context(), &cri.StartContainerRequest{ContainerId: c.ID})
		wantError(t, err, codes.Unknown, "start container missing", handler+" create: ", "/no/such/program")
		s := c.Status()
		want(t, handler+": state, code and reason", fmt.Sprint(s.State, " ", s.ExitCode, " ", s.Reason), "CONTAINER_EXITED 128 StartError")
		c.Remove()
		runs := pod.Run(harness.ContainerConfig("runs", harness.Sleep))
		if _, err := runs.TryExec(10, "/no/such/command"); err == nil || !strings.Contains(err.Error(), "/no/such/command") {
			t.Errorf("%s: exec of a missing command: %v", handler, err)
		}
	}
}

func TestRootHandlersInStatus(t *testing.T) {
	d := withRuntimes(t)
	r, err := d.Runtime.Status(d.Context(), &cri.StatusRequest{})
	check(t, err)
	var names []string
	for _, h := range r.RuntimeHandlers {
		names = append(names, h.Name)
		if h.Name == "runc" {
			want(t, "runc's recursive read-only mounts", h.Features.RecursiveReadOnlyMounts, true)
			want(t, "runc's user namespaces", h.Features.UserNamespaces, false)
		}
	}
	want(t, "handlers", strings.Join(names, " "), " berth crun runc")
}
