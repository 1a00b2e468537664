package link

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// upWait is how long a new interface may take to come up, as in the reference bridge plugin. It takes some 100 µs.
	upWait = 2500 * time.Millisecond
	upPoll = 100 * time.Microsecond
	upMost = time.Millisecond // between two looks
)

// AwaitUp returns when the interface called name passes packets: when the kernel's link watch has seen the carrier of both ends of its
// pair. Until then what it is to send is dropped, and a bridge does not forward for it. From Linux 6.8 on whoever looks has it seen
// (linkwatch_sync_dev), before that a work queue does it.
func (s *Space) AwaitUp(ctx context.Context, name string) error {
	deadline := time.Now().Add(upWait)
	for wait := upPoll; ; wait = min(2*wait, upMost) {
		b := s.Batch()
		now := b.Look(name)
		err := b.Run()
		if err == nil && now.Up {
			return nil
		}
		if errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("interface %s: gone while it was set up", name)
		}
		if err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("interface %s has no carrier", name)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}
