package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/berth-runtime/berth/cni"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// attach gives a pod its addresses, or on the host's network the ports of the host that it wants to itself.
func (ps *pods) attach(ctx context.Context, rec *podRecord) ([]netip.Addr, error) {
	if rec.NetNS == "" {
		return nil, networkError(ps.parts.Network.Reserve(attachment(rec)))
	}
	result, err := ps.parts.Network.Add(ctx, attachment(rec))
	if err != nil {
		return nil, networkError(err)
	}
	return result.IPs, nil
}

// networkError says what an error of the network is to clients.
func networkError(err error) error {
	for _, known := range []struct{ is, means error }{
		{cni.ErrInvalid, spec.ErrInvalid}, {cni.ErrPortTaken, ErrHostPort}, {cni.ErrNotReady, ErrNetwork},
	} {
		if errors.Is(err, known.is) {
			return fmt.Errorf("%w: %w", known.means, err)
		}
	}
	return err
}

// detach frees what a pod has in the network. It succeeds for pods that never
// were attached, and when the namespace is gone.
func (ps *pods) detach(ctx context.Context, rec *podRecord) error {
	a := attachment(rec)
	if rec.NetNS == "" && len(a.Ports) == 0 {
		return nil
	}
	if err := ps.parts.Network.Del(ctx, a); err != nil {
		return fmt.Errorf("detach from the network: %w", err)
	}
	return nil
}

// attachment is a pod's place in the network, all from its record.
func attachment(rec *podRecord) cni.Attachment {
	c := rec.Config
	a := cni.Attachment{
		ID: rec.ID, NetNS: rec.NetNS, PodName: c.Metadata.Name, PodNamespace: c.Metadata.Namespace, PodUID: c.Metadata.UID,
		Annotations: c.Annotations, CgroupPath: c.CgroupParent, Handler: c.RuntimeHandler,
	}
	for _, p := range c.PortMappings {
		a.Ports = append(a.Ports, cni.PortMapping{HostPort: p.HostPort, ContainerPort: p.ContainerPort, Protocol: string(p.Protocol), HostIP: p.HostIP})
	}
	if c.DNS != nil {
		a.DNS = cni.DNS{Servers: c.DNS.Servers, Searches: c.DNS.Searches, Options: c.DNS.Options}
	}
	return a
}
