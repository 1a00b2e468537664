package cri

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/berth-runtime/berth/cri/trace"
	"github.com/berth-runtime/berth/sandbox"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// RuntimeName is the prefix of container ids in pod statuses ("berth://<id>").
// It can never change: clusters have it stored.
const RuntimeName = "berth"

const (
	kubeletAPIVersion = "0.1.0" // the only value that VersionResponse.version ever had
	criVersion        = "v1"
)

// Config is what the door says of the runtime.
type Config struct {
	Version string // semver: kubelet refuses to start on anything else
	// Handlers are those of RuntimeClasses, the default's first. The empty name
	// stands for the default; a request that names another one is refused.
	Handlers Handlers
	// Features are those of the runtime itself on this node.
	Features Features
	// Info is shown by Status to a client that asks for more; nil: nothing. Each
	// value becomes JSON.
	Info func() map[string]any
	API  APIConfig
	// Tracer records requests; nil: none is.
	Tracer *trace.Tracer
}

// APIConfig is the [cri] table of the configuration file.
type APIConfig struct {
	// PodStatusTimestamp has PodSandboxStatus say of which moment it is. That tells kubelet, with its gate EventedPLEG, to ask for
	// no container on its own. But then kubelet 1.37 keeps no list of the containers that are of the current sandbox
	// (ActiveContainerStatuses, GetPodStatus in kuberuntime_manager.go), and runs a pod's init containers for ever.
	PodStatusTimestamp bool `toml:"pod_status_timestamp"`
}

// Handler is one RuntimeClass handler, and what it can do on this node.
type Handler struct {
	Name              string
	RecursiveReadOnly bool
	UserNamespaces    bool
}

// Features are what the node lets pods have, as CRI's RuntimeFeatures.
type Features struct {
	SupplementalGroupsPolicy  bool
	UserNamespacesHostNetwork bool
	MountOptions              bool // noexec, nodev and nosuid of volumes
}

// Handlers are what a RuntimeClass can choose from.
type Handlers []Handler

// check refuses a handler that isn't there.
func (h Handlers) check(field, name string) error {
	if name == "" || slices.ContainsFunc(h, func(known Handler) bool { return known.Name == name }) {
		return nil
	}
	return invalid(field, name, "is no runtime handler of this node")
}

// Node is what the door asks of the node as a whole.
type Node interface {
	Ready() sandbox.Readiness
	CgroupDriver() string // "systemd" or "cgroupfs"
	SetPodCIDRs([]netip.Prefix) error
}

// runtimeService is CRI's RuntimeService, by what its calls are about.
type runtimeService struct {
	*nodeCalls
	*podCalls
	*containerCalls
	*streamCalls
	*statsCalls
	*checkpointCalls
	unimplemented
}

// unimplemented answers what the others don't have: its methods lie deeper than theirs.
type unimplemented struct {
	v1.UnimplementedRuntimeServiceServer
}

func newRuntimeService(cfg Config, parts Parts, now func() time.Time, ending context.Context) *runtimeService {
	return &runtimeService{
		nodeCalls:       &nodeCalls{cfg, parts.Node},
		podCalls:        &podCalls{cfg, parts.Pods, ending},
		containerCalls:  &containerCalls{parts.Containers},
		streamCalls:     &streamCalls{parts.Pods, parts.Containers, parts.Streams},
		statsCalls:      &statsCalls{parts.Stats, now},
		checkpointCalls: &checkpointCalls{cfg, parts.Checkpoints},
	}
}

// nodeCalls are those about the node and the runtime itself.
type nodeCalls struct {
	cfg  Config
	node Node
}

func (s *nodeCalls) Version(context.Context, *v1.VersionRequest) (*v1.VersionResponse, error) {
	return &v1.VersionResponse{
		Version:           kubeletAPIVersion,
		RuntimeName:       RuntimeName,
		RuntimeVersion:    s.cfg.Version,
		RuntimeApiVersion: criVersion,
	}, nil
}

// Status is polled every few seconds. Whoever gets an answer knows that the
// runtime is ready; the network has a reason when it isn't.
func (s *nodeCalls) Status(_ context.Context, req *v1.StatusRequest) (*v1.StatusResponse, error) {
	out := &v1.StatusResponse{
		Status: &v1.RuntimeStatus{Conditions: []*v1.RuntimeCondition{
			{Type: v1.RuntimeReady, Status: true},
			encodeNetworkCondition(s.node.Ready()),
		}},
		RuntimeHandlers: encodeHandlers(s.cfg.Handlers),
		Features: &v1.RuntimeFeatures{
			SupplementalGroupsPolicy:  s.cfg.Features.SupplementalGroupsPolicy,
			UserNamespacesHostNetwork: s.cfg.Features.UserNamespacesHostNetwork,
			MountOptions:              s.cfg.Features.MountOptions,
		},
	}
	if !req.Verbose || s.cfg.Info == nil {
		return out, nil
	}
	info, err := encodeInfo(s.cfg.Info())
	out.Info = info
	return out, err
}

func encodeNetworkCondition(in sandbox.Readiness) *v1.RuntimeCondition {
	out := &v1.RuntimeCondition{Type: v1.NetworkReady, Status: in.Network == nil}
	if in.Network != nil {
		out.Reason, out.Message = "NetworkNotReady", oneLine(in.Network.Error())
	}
	return out
}

// encodeHandlers lists the default handler twice, by name and as "" (api.proto:
// "may be empty for the default handler").
func encodeHandlers(in Handlers) []*v1.RuntimeHandler {
	out := make([]*v1.RuntimeHandler, 0, len(in)+1)
	for i, h := range in {
		features := &v1.RuntimeHandlerFeatures{RecursiveReadOnlyMounts: h.RecursiveReadOnly, UserNamespaces: h.UserNamespaces}
		if i == 0 {
			out = append(out, &v1.RuntimeHandler{Features: features})
		}
		out = append(out, &v1.RuntimeHandler{Name: h.Name, Features: features})
	}
	return out
}

// encodeInfo makes the values JSON, as CRI wants verbose information to be.
func encodeInfo(in map[string]any) (map[string]string, error) {
	out := make(map[string]string, len(in))
	for key, value := range in {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("encode information %s: %w", key, err)
		}
		out[key] = string(text)
	}
	return out, nil
}

func (s *nodeCalls) RuntimeConfig(context.Context, *v1.RuntimeConfigRequest) (*v1.RuntimeConfigResponse, error) {
	driver := v1.CgroupDriver_CGROUPFS
	if s.node.CgroupDriver() == "systemd" {
		driver = v1.CgroupDriver_SYSTEMD
	}
	return &v1.RuntimeConfigResponse{Linux: &v1.LinuxRuntimeConfiguration{CgroupDriver: driver}}, nil
}

// UpdateRuntimeConfig takes the node's pod CIDRs. None is no news.
func (s *nodeCalls) UpdateRuntimeConfig(_ context.Context, req *v1.UpdateRuntimeConfigRequest) (*v1.UpdateRuntimeConfigResponse, error) {
	cidrs, err := decodeCIDRs("runtime_config.network_config.pod_cidr", req.GetRuntimeConfig().GetNetworkConfig().GetPodCidr())
	if err != nil {
		return nil, err
	}
	if len(cidrs) > 0 {
		if err := s.node.SetPodCIDRs(cidrs); err != nil {
			return nil, err
		}
	}
	return &v1.UpdateRuntimeConfigResponse{}, nil
}
