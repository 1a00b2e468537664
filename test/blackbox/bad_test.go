package blackbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
)

var unknown = strings.Repeat("f", 64)

func TestRootUnknownIDs(t *testing.T) {
	d := start(t)
	ctx := d.Context()
	call := func(_ any, err error) error { return err }
	for name, err := range map[string]error{
		"StopPodSandbox":   call(d.Runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: unknown})),
		"RemovePodSandbox": call(d.Runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: unknown})),
		"StopContainer":    call(d.Runtime.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: unknown})),
		"RemoveContainer":  call(d.Runtime.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: unknown})),
		"RemoveImage":      call(d.Images.RemoveImage(ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: "registry.k8s.io/no/such:image"}})),
	} {
		if err != nil {
			t.Errorf("%s of an unknown id: %v; it must succeed", name, err)
		}
	}
	for name, err := range map[string]error{
		"PodSandboxStatus": call(d.Runtime.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: unknown})),
		"ContainerStatus":  call(d.Runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: unknown})),
		"StartContainer":   call(d.Runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: unknown})),
		"ExecSync":         call(d.Runtime.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: unknown, Cmd: []string{"true"}})),
		"CreateContainer": call(d.Runtime.CreateContainer(ctx, &cri.CreateContainerRequest{
			PodSandboxId: unknown, Config: harness.ContainerConfig("c", "true"), SandboxConfig: d.PodConfig("p"),
		})),
	} {
		if code := status.Code(err); code != codes.NotFound {
			t.Errorf("%s of an unknown id: %v, wanted NotFound", name, err)
		} else if !strings.Contains(err.Error(), unknown) {
			t.Errorf("%s does not name the id: %v", name, err)
		}
	}
	r, err := d.Images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: "registry.k8s.io/no/such:image"}})
	if err != nil || r.Image != nil {
		t.Errorf("ImageStatus of an absent image: %v, %v; wanted neither", r, err)
	}
}

func TestRootBadPods(t *testing.T) {
	d := start(t)
	for _, c := range []struct {
		name  string
		spoil func(*cri.PodSandboxConfig)
		field string // that the error names
	}{
		{"no metadata", func(p *cri.PodSandboxConfig) { p.Metadata = nil }, "metadata"},
		{"no name", func(p *cri.PodSandboxConfig) { p.Metadata.Name = "" }, "metadata.name"},
		{"no uid", func(p *cri.PodSandboxConfig) { p.Metadata.Uid = "" }, "metadata.uid"},
		{"no namespace", func(p *cri.PodSandboxConfig) { p.Metadata.Namespace = "" }, "metadata.namespace"},
		{"long hostname", func(p *cri.PodSandboxConfig) { p.Hostname = strings.Repeat("x", 65) }, "hostname"},
		{"hostname with a slash", func(p *cri.PodSandboxConfig) { p.Hostname = "a/b" }, "hostname"},
		{"hostname with a line end", func(p *cri.PodSandboxConfig) { p.Hostname = "a\nb" }, "hostname"},
		{"sysctl of the node", func(p *cri.PodSandboxConfig) { p.Linux.Sysctls = map[string]string{"kernel.panic": "1"} }, "kernel.panic"},
		{"sysctl that climbs", func(p *cri.PodSandboxConfig) { p.Linux.Sysctls = map[string]string{"net/../kernel/panic": "1"} }, "sysctls"},
		{"sysctl of the network on the host's", func(p *cri.PodSandboxConfig) {
			harness.OnHostNetwork(p).Linux.Sysctls = map[string]string{"net.ipv4.ip_forward": "1"}
		}, "net.ipv4.ip_forward"},
		{"cgroup parent that climbs", func(p *cri.PodSandboxConfig) { p.Linux.CgroupParent = "/a/../../b" }, "cgroup_parent"},
		{"relative log directory", func(p *cri.PodSandboxConfig) { p.LogDirectory = "logs" }, "log_directory"},
		{"port without a container port", func(p *cri.PodSandboxConfig) {
			p.PortMappings = []*cri.PortMapping{{HostPort: 8080}}
		}, "port_mappings"},
		{"port beyond the last", func(p *cri.PodSandboxConfig) {
			p.PortMappings = []*cri.PortMapping{{HostPort: 80800, ContainerPort: 80}}
		}, "port_mappings"},
		{"port at no address", func(p *cri.PodSandboxConfig) {
			p.PortMappings = []*cri.PortMapping{{HostPort: 8080, ContainerPort: 80, HostIp: "here"}}
		}, "host_ip"},
		{"group without user", func(p *cri.PodSandboxConfig) {
			p.Linux.SecurityContext.RunAsGroup = &cri.Int64Value{Value: 5}
		}, "run_as_group"},
	} {
		config := d.PodConfig("bad")
		c.spoil(config)
		_, err := d.Runtime.RunPodSandbox(d.Context(), &cri.RunPodSandboxRequest{Config: config})
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), c.field) {
			t.Errorf("%s: %v; wanted InvalidArgument naming %s", c.name, err, c.field)
		}
	}
	_, err := d.Runtime.RunPodSandbox(d.Context(), &cri.RunPodSandboxRequest{})
	wantError(t, err, codes.InvalidArgument, "config")
	_, err = d.Runtime.RunPodSandbox(d.Context(), &cri.RunPodSandboxRequest{Config: d.PodConfig("handler"), RuntimeHandler: "no-such-handler"})
	if err == nil || !strings.Contains(err.Error(), "no-such-handler") {
		t.Errorf("an unknown runtime handler: %v", err)
	}
	list, err := d.Runtime.ListPodSandbox(d.Context(), &cri.ListPodSandboxRequest{})
	check(t, err)
	want(t, "pods that are left", len(list.Items), 0)
}

func TestRootBadContainers(t *testing.T) {
	d := start(t)
	pod := d.RunPod(d.PodConfig("pod"))
	mount := func(m *cri.Mount) func(*cri.ContainerConfig) {
		return func(c *cri.ContainerConfig) { c.Mounts = []*cri.Mount{m} }
	}
	for _, c := range []struct {
		name  string
		spoil func(*cri.ContainerConfig)
		code  codes.Code
		field string
	}{
		{"no metadata", func(c *cri.ContainerConfig) { c.Metadata = nil }, codes.InvalidArgument, "metadata"},
		{"no name", func(c *cri.ContainerConfig) { c.Metadata.Name = "" }, codes.InvalidArgument, "metadata.name"},
		{"no image", func(c *cri.ContainerConfig) { c.Image = nil }, codes.InvalidArgument, "image"},
		{"absent image", func(c *cri.ContainerConfig) { c.Image.Image = "registry.k8s.io/never/pulled:1" }, codes.NotFound, "registry.k8s.io/never/pulled:1"},
		{"mount to nowhere", mount(&cri.Mount{HostPath: "/tmp"}), codes.InvalidArgument, "container_path"},
		{"mount of nothing", mount(&cri.Mount{ContainerPath: "/v"}), codes.InvalidArgument, "host_path"},
		{"relative mount", mount(&cri.Mount{HostPath: "tmp", ContainerPath: "/v"}), codes.InvalidArgument, "host_path"},
		{"recursive but writable", mount(&cri.Mount{HostPath: "/tmp", ContainerPath: "/v", RecursiveReadOnly: true}), codes.InvalidArgument, "recursive_read_only"},
		{"recursive and propagated", mount(&cri.Mount{
			HostPath: "/tmp", ContainerPath: "/v", Readonly: true, RecursiveReadOnly: true, Propagation: cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER,
		}), codes.InvalidArgument, "recursive_read_only"},
		{"group without user", func(c *cri.ContainerConfig) {
			c.Linux.SecurityContext.RunAsGroup = &cri.Int64Value{Value: 5}
		}, codes.InvalidArgument, "run_as_group"},
		{"unknown capability", func(c *cri.ContainerConfig) {
			c.Linux.SecurityContext.Capabilities = &cri.Capability{AddCapabilities: []string{"FLY"}}
		}, codes.InvalidArgument, "FLY"},
		{"privileged in a pod that isn't", func(c *cri.ContainerConfig) { c.Linux.SecurityContext.Privileged = true }, codes.InvalidArgument, "privileged"},
		{"log path that climbs", func(c *cri.ContainerConfig) { c.LogPath = "../../../../../tmp/berth-test-escaped.log" }, codes.InvalidArgument, "log_path"},
		{"environment with a NUL", func(c *cri.ContainerConfig) { c.Envs = []*cri.KeyValue{{Key: "A", Value: []byte("b\x00c")}} }, codes.InvalidArgument, "envs"},
	} {
		config := harness.ContainerConfig("bad", "true")
		c.spoil(config)
		_, err := d.Runtime.CreateContainer(d.Context(), &cri.CreateContainerRequest{PodSandboxId: pod.ID, Config: config, SandboxConfig: pod.Config})
		if status.Code(err) != c.code || !strings.Contains(err.Error(), c.field) {
			t.Errorf("%s: %v; wanted %v naming %s", c.name, err, c.code, c.field)
		}
	}
	config := harness.ContainerConfig("unknown-user", "true")
	config.Linux.SecurityContext.RunAsUsername = "nobody-by-this-name"
	_, err := d.Runtime.CreateContainer(d.Context(), &cri.CreateContainerRequest{PodSandboxId: pod.ID, Config: config, SandboxConfig: pod.Config})
	if err == nil || !strings.Contains(err.Error(), "nobody-by-this-name") {
		t.Errorf("a user that the image doesn't know: %v", err)
	}
	list, err := d.Runtime.ListContainers(d.Context(), &cri.ListContainersRequest{})
	check(t, err)
	want(t, "containers that are left", len(list.Containers), 0)
	want(t, "the pod's state", pod.Status().State, cri.PodSandboxState_SANDBOX_READY)
}

func TestRootStartErrors(t *testing.T) {
	d := start(t)
	pod := d.RunPod(d.PodConfig("starts"))
	for name, command := range map[string][]string{
		"absent":      {"/no/such/command", "-x"},
		"not-on-path": {"no-such-command"},
		"directory":   {"/etc"},
		"no-program":  {"/etc/passwd"},
	} {
		config := harness.ContainerConfig(name, "")
		config.Command = command
		c := pod.Create(config)
		_, err := d.Runtime.StartContainer(d.Context(), &cri.StartContainerRequest{ContainerId: c.ID})
		wantError(t, err, codes.InvalidArgument, command[0])
		s := c.Status()
		if s.State != cri.ContainerState_CONTAINER_EXITED || s.ExitCode != 128 || s.Reason != "StartError" {
			t.Errorf("%s: %v, exit code %d, reason %q; wanted EXITED, 128, StartError", name, s.State, s.ExitCode, s.Reason)
		}
		if s.FinishedAt == 0 || s.Message == "" {
			t.Errorf("%s: finished at %d, message %q", name, s.FinishedAt, s.Message)
		}
	}
	check(t, os.MkdirAll(filepath.Join(pod.Config.LogDirectory, "taken"), 0o755))
	// What the configuration wants at paths that the image has something else at.
	for name, spoil := range map[string]func(*cri.ContainerConfig){
		"working-directory-file": func(c *cri.ContainerConfig) { c.WorkingDir = "/etc/passwd" },
		"file-on-directory": func(c *cri.ContainerConfig) {
			c.Mounts = []*cri.Mount{{HostPath: "/etc/passwd", ContainerPath: "/etc"}}
		},
		"directory-on-file": func(c *cri.ContainerConfig) {
			c.Mounts = []*cri.Mount{{HostPath: "/tmp", ContainerPath: "/etc/passwd"}}
		},
		"mount-below-file": func(c *cri.ContainerConfig) {
			c.Mounts = []*cri.Mount{{HostPath: "/tmp", ContainerPath: "/etc/passwd/x"}}
		},
		"log-is-a-directory": func(c *cri.ContainerConfig) { c.LogPath = "taken" },
	} {
		config := harness.ContainerConfig(name, "true")
		spoil(config)
		r, err := d.Runtime.CreateContainer(d.Context(), &cri.CreateContainerRequest{PodSandboxId: pod.ID, Config: config, SandboxConfig: pod.Config})
		if err == nil {
			_, err = d.Runtime.StartContainer(d.Context(), &cri.StartContainerRequest{ContainerId: r.ContainerId})
		}
		wantError(t, err, codes.InvalidArgument, name)
	}
	// None of it keeps the pod from going on.
	want(t, "exit code of a good one", pod.Run(harness.ContainerConfig("good", "exit 5")).Wait().ExitCode, 5)
}
