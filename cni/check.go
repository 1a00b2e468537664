package cni

import (
	"context"
	"errors"
	"fmt"

	"github.com/containernetworking/cni/libcni"

	"github.com/berth-runtime/berth/cni/plugin/link"
)

// Check says what of a pod's attachment is no longer as Add made it. Plugins that know no CHECK (before version 0.4.0) say nothing.
func (n *Network) Check(ctx context.Context, a Attachment) error {
	n.life.RLock()
	defer n.life.RUnlock()
	i, err := n.book.intents.read(a.ID)
	if err != nil {
		return err
	}
	if i == nil {
		return fmt.Errorf("check attachment %s: %w", a.ID, ErrNotAttached)
	}
	net, err := i.network()
	if err != nil {
		return err
	}
	pod, err := link.Open(i.NetNS)
	if err != nil {
		return fmt.Errorf("check attachment %s: %w", a.ID, err)
	}
	defer func() { _ = pod.Close() }()
	err = n.run.in(pod).CheckNetworkList(ctx, net.list, i.runtimeConf())
	if err != nil && !errors.Is(err, libcni.ErrorCheckNotSupp) {
		return fmt.Errorf("check attachment %s to %s: %w", a.ID, net, err)
	}
	return nil
}
