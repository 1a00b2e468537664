package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"
)

// closeTime is how long Close lets work under way go on.
const closeTime = 10 * time.Second

// Manager runs pods and containers. Its methods may be called concurrently.
// Where they take an id, the beginning of one will do if no other begins so
// (ErrAmbiguous otherwise).
//
// It is the door: what it does stands in types of one noun each, whose public
// methods are its own. This is who uses whom:
//
//	Manager ─┬─ pods ───────┬─ containers ─┬─ roots
//	         │              │              ├─ exits ──── hooks, runtimes
//	         │              │              ├─ hooks ──── specBuilder
//	         │              │              ├─ plugins ── specBuilder
//	         │              │              └─ runtimes ─ specBuilder, keptPrograms
//	         │              ├─ stocks ────── namespaces, keptPrograms
//	         │              └─ namespaces ─── keptPrograms
//	         ├─ sessions ─── specBuilder, hooks, runtimes
//	         ├─ details ──── specBuilder, keptPrograms
//	         ├─ checkpoints ─ specBuilder, keptPrograms
//	         ├─ restores ─── pods, containers (which have checkpoints)
//	         ├─ statistics
//	         └─ watched ─── of pods, too                            all: base
type Manager struct {
	*base
	*pods
	*containers
	*sessions
	*namespaces
	*keptPrograms
	*statistics
	*watched
	*details
	*checkpoints
	*restores

	unread  []string      // pods that Open left alone; it alone writes this
	drained chan struct{} // closed when dispatch has ended
}

// Open takes over what is on disk, in the keeper and in the kernel, and finishes
// or undoes what was half done. The Manager goes on when ctx ends; Close it.
// Records that are torn cost their pods, and are no error. Those that the disk
// doesn't give cost nothing: their pods are left alone, unseen, for the next Open.
func Open(ctx context.Context, cfg Config, parts Parts) (*Manager, error) {
	return open(ctx, cfg, parts, &linux{linuxCgroups: linuxCgroups{parts.Cgroups, parts.Systemd}, keeper: cfg.KeeperBinary}, newRecords(cfg.Root))
}

func open(ctx context.Context, cfg Config, parts Parts, h host, r *records) (*Manager, error) {
	boot, err := h.bootID()
	if err != nil {
		return nil, err
	}
	m := assemble(newBase(ctx, cfg, parts, h, r, boot))
	if err := errors.Join(os.MkdirAll(r.dir, 0o700), os.MkdirAll(cfg.podFiles(""), 0o711)); err != nil {
		return nil, fmt.Errorf("make directories of pods: %w", err)
	}
	if err := m.recover(); err != nil {
		return nil, err
	}
	m.tasks.goes(func(context.Context) { _ = m.containers.builder.appArmor.load() }) // it logs what fails
	if cfg.MaxLogSize > 0 {
		m.tasks.goes(m.containers.capLogs) // ends with Close
	}
	if cfg.ShowPods {
		m.tasks.goes(m.watched.follow) // ends with Close
	}
	go func() { // ends with Close
		defer close(m.drained)
		m.dispatch(m.tasks.base)
	}()
	return m, nil
}

// assemble makes the types of a Manager, each with those that it uses.
func assemble(b *base) *Manager {
	programs := &keptPrograms{base: b}
	builder := newSpecBuilder(b)
	others := &runtimes{base: b, builder: builder, programs: programs}
	hooks := &hooks{base: b, builder: builder}
	told := &plugins{base: b, builder: builder}
	namespaces := &namespaces{base: b, programs: programs}
	stocks := &stocks{base: b, namespaces: namespaces, programs: programs}
	checkpoints := &checkpoints{base: b, builder: builder, programs: programs}
	containers := &containers{
		base: b, checkpoints: checkpoints, roots: &roots{base: b}, builder: builder, hooks: hooks, runtimes: others, programs: programs, namespaces: namespaces, stocks: stocks,
		exits: &exits{base: b, hooks: hooks, runtimes: others, plugins: told}, plugins: told,
	}
	watched := &watched{base: b, pids: map[string]int{}}
	pods := &pods{base: b, watched: watched, containers: containers, namespaces: namespaces, stocks: stocks, programs: programs, runtimes: others, plugins: told}
	return &Manager{
		base:         b,
		pods:         pods,
		containers:   containers,
		sessions:     &sessions{base: b, builder: builder, hooks: hooks, runtimes: others},
		namespaces:   namespaces,
		keptPrograms: programs,
		statistics:   &statistics{base: b},
		watched:      watched,
		details:      &details{base: b, builder: builder, programs: programs},
		checkpoints:  checkpoints,
		restores:     &restores{base: b, pods: pods, containers: containers},
		drained:      make(chan struct{}),
	}
}

// Close ends the manager; containers run on, and the keeper is the caller's to
// close, afterwards. Work under way may go on for a short time, then it is undone.
func (m *Manager) Close() error {
	m.hurry(ErrClosed)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.closing), closeTime)
	defer cancel()
	m.tasks.close(ctx)
	<-m.drained
	m.gauges.close()
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
