package nri

import (
	"context"

	"github.com/containerd/nri/pkg/api"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-runtime/berth/sandbox"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// Pod tells of a step of a pod's; see sandbox.Plugins.
func (p *Plugins) Pod(ctx context.Context, step sandbox.PluginStep, pod *sandbox.PodInfo) error {
	seen := encodePod(pod)
	switch step {
	case sandbox.PluginRun:
		return p.adaptation.RunPodSandbox(ctx, &api.RunPodSandboxRequest{Pod: seen})
	case sandbox.PluginUpdated:
		return p.adaptation.PostUpdatePodSandbox(ctx, &api.PostUpdatePodSandboxRequest{Pod: seen})
	case sandbox.PluginStop:
		return p.adaptation.StopPodSandbox(ctx, &api.StopPodSandboxRequest{Pod: seen})
	default:
		return p.adaptation.RemovePodSandbox(ctx, &api.RemovePodSandboxRequest{Pod: seen})
	}
}

// UpdatePod asks whether a pod's limits may become others; see sandbox.Plugins.
func (p *Plugins) UpdatePod(ctx context.Context, pod *sandbox.PodInfo, overhead, resources *spec.Resources) error {
	_, err := p.adaptation.UpdatePodSandbox(ctx, &api.UpdatePodSandboxRequest{
		Pod: encodePod(pod), OverheadLinuxResources: limits(overhead), LinuxResources: limits(resources),
	})
	return err
}

// limits are those of a change; nil: none.
func limits(r *spec.Resources) *api.LinuxResources {
	if r == nil {
		return nil
	}
	return api.FromOCILinuxResources(r.Linux(), nil)
}

// Container tells of a step of a container's; see sandbox.Plugins.
func (p *Plugins) Container(ctx context.Context, step sandbox.PluginStep, pod *sandbox.PodInfo, c *sandbox.ContainerInfo, s *specs.Spec) error {
	in, of := encodePod(pod), encodeContainer(c, s)
	switch step {
	case sandbox.PluginCreated:
		return p.adaptation.PostCreateContainer(ctx, &api.PostCreateContainerRequest{Pod: in, Container: of})
	case sandbox.PluginStart:
		return p.adaptation.StartContainer(ctx, &api.StartContainerRequest{Pod: in, Container: of})
	case sandbox.PluginStarted:
		return p.adaptation.PostStartContainer(ctx, &api.PostStartContainerRequest{Pod: in, Container: of})
	case sandbox.PluginUpdated:
		return p.adaptation.PostUpdateContainer(ctx, &api.PostUpdateContainerRequest{Pod: in, Container: of})
	case sandbox.PluginStop:
		reply, err := p.adaptation.StopContainer(ctx, &api.StopContainerRequest{Pod: in, Container: of})
		p.apply(reply.GetUpdate())
		return err
	default:
		return p.adaptation.RemoveContainer(ctx, &api.RemoveContainerRequest{Pod: in, Container: of})
	}
}
