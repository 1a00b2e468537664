package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/oci/apparmor"
)

// closeTime is how long Close lets work under way go on.
const closeTime = 10 * time.Second

// Manager runs pods and containers. Its methods may be called concurrently.
// Where they take an id, the beginning of one will do if no other begins so
// (ErrAmbiguous otherwise).
type Manager struct {
	cfg      Config
	parts    Parts
	log      logrus.FieldLogger
	host     host
	boot     string // boot_id of the running kernel
	records  *records
	index    *index
	tasks    *tasks
	profiles profiles
	appArmor *appArmor

	unread []string // pods that Open left alone; it alone writes this

	users atomic.Bool // user namespaces were seen to work

	closing context.Context // ends when Close begins
	hurry   context.CancelCauseFunc
	events  events
	swept   chan struct{} // closed when Open's sweep is over
	drained chan struct{} // closed when dispatch has ended
}

// Open takes over what is on disk, in the keeper and in the kernel, and finishes
// or undoes what was half done. The Manager goes on when ctx ends; Close it.
// Records that are torn cost their pods, and are no error. Those that the disk
// doesn't give cost nothing: their pods are left alone, unseen, for the next Open.
func Open(ctx context.Context, cfg Config, parts Parts) (*Manager, error) {
	return open(ctx, cfg, parts, &linux{cgroups: parts.Cgroups, systemd: parts.Systemd, keeper: cfg.KeeperBinary}, newRecords(cfg.Root))
}

func open(ctx context.Context, cfg Config, parts Parts, h host, r *records) (*Manager, error) {
	boot, err := h.bootID()
	if err != nil {
		return nil, err
	}
	m := &Manager{
		cfg: cfg, parts: parts, log: parts.Log, host: h, boot: boot, records: r, index: newIndex(), tasks: newTasks(ctx, parts.Log),
		appArmor: newAppArmor(apparmor.Host{}, cfg.AppArmorProfile, parts.Log),
		swept:    make(chan struct{}), drained: make(chan struct{}),
	}
	m.closing, m.hurry = context.WithCancelCause(context.WithoutCancel(ctx))
	if err := errors.Join(os.MkdirAll(r.dir, 0o700), os.MkdirAll(cfg.podFiles(""), 0o711)); err != nil {
		return nil, fmt.Errorf("make directories of pods: %w", err)
	}
	if err := m.recover(); err != nil {
		return nil, err
	}
	m.tasks.goes(func(context.Context) { _ = m.appArmor.load() }) // it logs what fails
	go func() {                                                   // ends with Close
		defer close(m.drained)
		m.dispatch(m.tasks.base)
	}()
	return m, nil
}

// Close ends the manager; containers run on, and the keeper is the caller's to
// close, afterwards. Work under way may go on for a short time, then it is undone.
func (m *Manager) Close() error {
	m.hurry(ErrClosed)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.closing), closeTime)
	defer cancel()
	m.tasks.close(ctx)
	<-m.drained
	for _, c := range m.index.allContainers() {
		if c.root != nil {
			c.root.Close()
		}
		if c.process != nil {
			c.process.release()
		}
		if c.input != nil {
			c.input.Close()
		}
	}
	var errs []error
	for _, p := range m.index.allPods() {
		if err := p.release(); err != nil {
			errs = append(errs, fmt.Errorf("release pod %s: %w", p.id, err))
		}
	}
	return errors.Join(errs...)
}

// Ready says whether the node can run pods. It waits for nothing.
func (m *Manager) Ready() Readiness { return Readiness{Network: m.parts.Network.Status()} }

// SetPodCIDRs gives the built-in network its subnets.
func (m *Manager) SetPodCIDRs(cidrs []netip.Prefix) error { return m.parts.Network.SetPodCIDRs(cidrs) }

// CgroupDriver is how cgroups are named: "cgroupfs" or "systemd".
func (m *Manager) CgroupDriver() string { return m.cfg.CgroupDriver }

// awaitSweep waits until no sweep can take a new pod's address for an old one's.
func (m *Manager) awaitSweep(ctx context.Context) error {
	select {
	case <-m.swept:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
