package nri

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"
	nrilog "github.com/containerd/nri/pkg/log"
	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/sandbox"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// Pods are what plugins are shown, and may update (*sandbox.Manager).
type Pods interface {
	Pods(sandbox.PodFilter) []*sandbox.PodInfo
	Containers(sandbox.ContainerFilter) []*sandbox.ContainerInfo
	UpdateForPlugin(ctx context.Context, id string, update *spec.Resources) error
}

// Plugins are those of a node. The zero value has none and lets none in.
type Plugins struct {
	adaptation *adaptation.Adaptation // nil: no plugins on this node
	count      atomic.Int64
	pods       Pods
	log        logrus.FieldLogger
	ctx        context.Context // ends with Close
	cancel     context.CancelFunc
}

// New makes what the sandbox tells of its steps. Nobody is let in before Open.
func New(ctx context.Context, cfg Config, version string, log logrus.FieldLogger) (*Plugins, error) {
	p := &Plugins{log: log}
	p.ctx, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if cfg.Socket == "" {
		return p, nil
	}
	nrilog.Set(logger{log, true}) // it tells as an error that it has no WebAssembly
	adaptation.SetPluginRequestTimeout(time.Duration(cfg.RequestTimeout))
	options := []adaptation.Option{
		adaptation.WithSocketPath(cfg.Socket), adaptation.WithPluginPath(cfg.PluginDir), adaptation.WithPluginConfigPath(cfg.PluginConfigDir),
		adaptation.WithMetrics(counter{&p.count}),
	}
	a, err := adaptation.New("berth", version, p.synchronize, p.update, options...)
	if err != nil {
		return nil, fmt.Errorf("make plugins' interface: %w", err)
	}
	nrilog.Set(logger{log, false})
	p.adaptation = a
	return p, nil
}

// Open starts the plugins of the directory and lets others connect. It is called once.
func (p *Plugins) Open(pods Pods) error {
	if p.adaptation == nil {
		return nil
	}
	p.pods = pods
	if err := p.adaptation.Start(); err != nil {
		return fmt.Errorf("start plugins' interface: %w", err)
	}
	return nil
}

// Close ends the plugins that were started, and the others' connections.
func (p *Plugins) Close() {
	p.cancel()
	if p.adaptation != nil && p.pods != nil {
		p.adaptation.Stop()
	}
}

// Enabled says whether plugins may connect at all.
func (p *Plugins) Enabled() bool { return p.adaptation != nil }

// Enter begins a step; see sandbox.Plugins.
func (p *Plugins) Enter() (leave func(), any bool) {
	if p.adaptation == nil {
		return func() {}, false
	}
	block := p.adaptation.BlockPluginSync()
	return block.Unblock, p.count.Load() > 0
}

// synchronize shows a plugin that joins all that there is. No step is under way.
func (p *Plugins) synchronize(ctx context.Context, show adaptation.SyncCB) error {
	pods, byID := p.pods.Pods(sandbox.PodFilter{}), map[string]*sandbox.PodInfo{}
	var seenPods []*api.PodSandbox
	for _, pod := range pods {
		byID[pod.ID] = pod
		seenPods = append(seenPods, encodePod(pod))
	}
	var seen []*api.Container
	for _, c := range p.pods.Containers(sandbox.ContainerFilter{}) {
		if pod := byID[c.PodID]; pod != nil && c.State != sandbox.ContainerExited {
			seen = append(seen, encodeContainer(c, nil))
		}
	}
	updates, err := show(ctx, seenPods, seen)
	if err != nil {
		return err
	}
	p.apply(updates)
	return nil
}

// update does what a plugin wants without having been asked, and returns what failed.
func (p *Plugins) update(ctx context.Context, updates []*api.ContainerUpdate) ([]*api.ContainerUpdate, error) {
	var failed []*api.ContainerUpdate
	var errs []error
	for _, u := range updates {
		if err := p.pods.UpdateForPlugin(ctx, u.ContainerId, decodeResources(u.GetLinux().GetResources())); err != nil {
			failed = append(failed, u)
			if !u.IgnoreFailure {
				errs = append(errs, err)
			}
		}
	}
	return failed, errors.Join(errs...)
}

// updateTime bounds an update that a plugin asked for in passing.
const updateTime = 30 * time.Second

// apply does updates of other containers than a step is about, once it and those under way in their pods are over.
func (p *Plugins) apply(updates []*api.ContainerUpdate) {
	if len(updates) == 0 {
		return
	}
	go func() { // ends with the updates, or Close
		for _, u := range updates {
			ctx, cancel := context.WithTimeout(p.ctx, updateTime)
			err := p.pods.UpdateForPlugin(ctx, u.ContainerId, decodeResources(u.GetLinux().GetResources()))
			cancel()
			if err != nil {
				p.log.WithFields(logrus.Fields{"container": u.ContainerId, "op": "update for a plugin", "error": err}).Warn("container not updated")
			}
		}
	}()
}

// counter is told how many plugins there are.
type counter struct{ count *atomic.Int64 }

func (c counter) UpdatePluginCount(n int)                                                 { c.count.Store(int64(n)) }
func (counter) RecordPluginInvocation(_, _ string, _ error)                               {}
func (counter) RecordPluginLatency(_, _ string, _ time.Duration)                          {}
func (counter) RecordPluginAdjustments(_, _ string, _ *api.ContainerAdjustment, _, _ int) {}

// logger has the module's lines among berth's.
type logger struct {
	log   logrus.FieldLogger
	quiet bool
}

func (l logger) line(format string, args []any) logrus.FieldLogger {
	return l.log.WithField("op", "plugins: "+fmt.Sprintf(format, args...))
}

const message = "plugins' interface"

func (l logger) Debugf(_ context.Context, format string, args ...any) {
	l.line(format, args).Debug(message)
}
func (l logger) Infof(_ context.Context, format string, args ...any) {
	l.line(format, args).Debug(message)
}
func (l logger) Warnf(_ context.Context, format string, args ...any) {
	l.line(format, args).Warn(message)
}
func (l logger) Errorf(_ context.Context, format string, args ...any) {
	if l.quiet {
		l.line(format, args).Debug(message)
		return
	}
	l.line(format, args).Error(message)
}
