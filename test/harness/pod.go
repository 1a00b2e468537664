package harness

import (
	"path/filepath"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/images"
)

// PodConfig is a pod of the given name, with the daemon's cgroup parent and a log
// directory of its own.
func (d *Daemon) PodConfig(name string) *cri.PodSandboxConfig {
	return &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Uid: d.Name + "-" + name, Namespace: "test"},
		Hostname:     name,
		LogDirectory: filepath.Join(d.LogDirectory(), name),
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent: d.PodCgroup(name),
			SecurityContext: &cri.LinuxSandboxSecurityContext{
				NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER},
			},
		},
	}
}

// OnHostNetwork has the pod use the node's network, which is quicker to set up.
func OnHostNetwork(p *cri.PodSandboxConfig) *cri.PodSandboxConfig {
	p.Linux.SecurityContext.NamespaceOptions.Network = cri.NamespaceMode_NODE
	p.Hostname = ""
	return p
}

// ContainerConfig is a container of busybox that runs a shell script.
func ContainerConfig(name, script string) *cri.ContainerConfig {
	return &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: name},
		Image:    &cri.ImageSpec{Image: images.Busybox},
		Command:  []string{"sh", "-c", script},
		LogPath:  name + ".log",
		Linux: &cri.LinuxContainerConfig{
			Resources:       &cri.LinuxContainerResources{},
			SecurityContext: &cri.LinuxContainerSecurityContext{NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER}},
		},
	}
}

// Sleep is what a container runs that only has to be there. It ends on SIGTERM.
const Sleep = `trap "exit 0" TERM; while :; do sleep 0.1; done`

// Pod is a pod that a test runs.
type Pod struct {
	ID     string
	Config *cri.PodSandboxConfig
	d      *Daemon
}

// RunPod runs a pod.
func (d *Daemon) RunPod(config *cri.PodSandboxConfig) *Pod {
	d.t.Helper()
	return d.RunPodBy("", config)
}

// RunPodBy runs a pod whose containers are made by the runtime of a handler.
func (d *Daemon) RunPodBy(handler string, config *cri.PodSandboxConfig) *Pod {
	d.t.Helper()
	r, err := d.Runtime.RunPodSandbox(d.Context(), &cri.RunPodSandboxRequest{Config: config, RuntimeHandler: handler})
	if err != nil {
		d.t.Fatalf("run pod %s: %v", config.Metadata.Name, err)
	}
	return &Pod{r.PodSandboxId, config, d}
}

// Status is what the daemon says of the pod.
func (p *Pod) Status() *cri.PodSandboxStatus {
	p.d.t.Helper()
	r, err := p.d.Runtime.PodSandboxStatus(p.d.Context(), &cri.PodSandboxStatusRequest{PodSandboxId: p.ID})
	if err != nil {
		p.d.t.Fatalf("status of pod %s: %v", p.Config.Metadata.Name, err)
	}
	return r.Status
}

// IP is the pod's first address.
func (p *Pod) IP() string {
	p.d.t.Helper()
	ip := p.Status().Network.GetIp()
	if ip == "" {
		p.d.t.Fatalf("pod %s has no address", p.Config.Metadata.Name)
	}
	return ip
}

// Stop stops the pod with everything in it.
func (p *Pod) Stop() {
	p.d.t.Helper()
	if _, err := p.d.Runtime.StopPodSandbox(p.d.Context(), &cri.StopPodSandboxRequest{PodSandboxId: p.ID}); err != nil {
		p.d.t.Fatalf("stop pod %s: %v", p.Config.Metadata.Name, err)
	}
}

// Remove stops and removes the pod.
func (p *Pod) Remove() {
	p.d.t.Helper()
	p.Stop()
	if _, err := p.d.Runtime.RemovePodSandbox(p.d.Context(), &cri.RemovePodSandboxRequest{PodSandboxId: p.ID}); err != nil {
		p.d.t.Fatalf("remove pod %s: %v", p.Config.Metadata.Name, err)
	}
}

// Restored is a pod that the daemon made from a checkpoint.
func (d *Daemon) Restored(id string, config *cri.PodSandboxConfig) *Pod {
	return &Pod{id, config, d}
}

// Restored is a container that the daemon made with its pod.
func (p *Pod) Restored(id string, config *cri.ContainerConfig) *Container {
	return &Container{id, config, p}
}
