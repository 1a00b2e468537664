package sandbox

import (
	"context"

	"github.com/sirupsen/logrus"
)

// base is what all that works on pods and containers stands on: the rooms below,
// the records, who is there, and the work under way.
type base struct {
	cfg     Config
	parts   Parts
	log     logrus.FieldLogger
	host    host
	boot    string // boot_id of the running kernel
	records *records
	index   *index
	tasks   *tasks
	events  events
	gauges  gauges
	selinux seLinux

	closing context.Context // ends when Close begins
	hurry   context.CancelCauseFunc
	swept   chan struct{} // closed when Open's sweep is over
}

func newBase(ctx context.Context, cfg Config, parts Parts, h host, r *records, boot string) *base {
	b := &base{
		cfg: cfg, parts: parts, log: parts.Log, host: h, boot: boot, records: r, index: newIndex(), tasks: newTasks(ctx, parts.Log),
		selinux: newSELinux(cfg.SELinux), swept: make(chan struct{}),
	}
	b.closing, b.hurry = context.WithCancelCause(context.WithoutCancel(ctx))
	return b
}

// awaitSweep waits until no sweep can take a new pod's address for an old one's.
func (b *base) awaitSweep(ctx context.Context) error {
	select {
	case <-b.swept:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
