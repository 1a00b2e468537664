package blackbox

import (
	"net/netip"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
)

// TestRootHostPortConflicts has pods on the host's network, and others, want one port. The error names who has it, also when the daemon that gave
// it is gone; the port is free when the pod is stopped.
func TestRootHostPortConflicts(t *testing.T) {
	d := start(t)
	port := int32(harness.FreePort(t))
	want := func(config *cri.PodSandboxConfig) *cri.PodSandboxConfig {
		config.PortMappings = []*cri.PortMapping{{Protocol: cri.Protocol_TCP, ContainerPort: port, HostPort: port}}
		return config
	}
	run := func(config *cri.PodSandboxConfig) error {
		_, err := d.Runtime.RunPodSandbox(d.Context(), &cri.RunPodSandboxRequest{Config: config})
		return err
	}
	node := d.RunPod(want(harness.OnHostNetwork(d.PodConfig("node"))))
	wantError(t, run(want(d.PodConfig("other"))), codes.FailedPrecondition, "node", "/tcp")
	d.Kill()
	d.Restart()
	wantError(t, run(want(d.PodConfig("other"))), codes.FailedPrecondition, "node")
	wantError(t, run(want(harness.OnHostNetwork(d.PodConfig("second")))), codes.FailedPrecondition, "node")
	node.Stop()
	other := d.RunPod(want(d.PodConfig("other")))
	wantError(t, run(want(harness.OnHostNetwork(d.PodConfig("second")))), codes.FailedPrecondition, "other")
	other.Remove()
	d.RunPod(want(harness.OnHostNetwork(d.PodConfig("second"))))
}

// TestRootNetworkAnnotations asks for addresses that the built-in network can and cannot give.
func TestRootNetworkAnnotations(t *testing.T) {
	d := start(t)
	gave := d.RunPod(d.PodConfig("any")).IP()
	config := d.PodConfig("asks")
	config.Annotations = map[string]string{"network.berth/ips": gave, "kubernetes.io/ingress-bandwidth": "10M"}
	_, err := d.Runtime.RunPodSandbox(d.Context(), &cri.RunPodSandboxRequest{Config: config})
	wantError(t, err, codes.Unknown, gave, "host-local")
	config.Annotations["network.berth/ips"] = "nonsense"
	_, err = d.Runtime.RunPodSandbox(d.Context(), &cri.RunPodSandboxRequest{Config: config})
	wantError(t, err, codes.InvalidArgument, "network.berth/ips")
	config.Annotations["network.berth/ips"] = netip.MustParseAddr(gave).Next().Next().String()
	pod := d.RunPod(config)
	if pod.IP() != config.Annotations["network.berth/ips"] {
		t.Errorf("asked for %s, got %s", config.Annotations["network.berth/ips"], pod.IP())
	}
	config = d.PodConfig("limited")
	config.Annotations = map[string]string{"kubernetes.io/ingress-bandwidth": "ten"}
	_, err = d.Runtime.RunPodSandbox(d.Context(), &cri.RunPodSandboxRequest{Config: config})
	wantError(t, err, codes.InvalidArgument, "kubernetes.io/ingress-bandwidth")
}
