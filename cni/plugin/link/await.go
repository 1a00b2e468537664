package link

import (
	"context"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
)

const (
	// upWait is how long a new interface may take to come up, as in the reference bridge plugin. It takes some 100 µs.
	upWait = 2500 * time.Millisecond
	upPoll = 100 * time.Microsecond
)

// AwaitUp returns when the interface called name passes packets: when the kernel's link watch, a work queue, has seen the carrier of both
// ends of its pair. Until then what it is to send is dropped, and a bridge does not forward for it.
func (s *Space) AwaitUp(ctx context.Context, name string) error {
	deadline := time.Now().Add(upWait)
	for wait := upPoll; ; wait *= 2 {
		l, err := s.Link(name)
		if err != nil {
			return err
		}
		if l == nil {
			return fmt.Errorf("interface %s: gone while it was set up", name)
		}
		state := l.Attrs().OperState
		if state == netlink.OperUp {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("interface %s stays %s", name, state)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}
