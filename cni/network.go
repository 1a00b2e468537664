package cni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containernetworking/cni/pkg/utils"
	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/loopback"
	"github.com/berth-runtime/berth/cni/plugin/podif"
)

// Errors of the network. A plugin's are within them.
var (
	ErrInvalid   = errors.New("invalid attachment")
	ErrNotReady  = errors.New("network is not ready")
	ErrPortTaken = errors.New("host port is taken")
	ErrClosed    = errors.New("network is closed")

	ErrNotAttached = errors.New("pod is not attached")
)

const (
	leasesDir  = "networks"
	intentsDir = "attachments"

	// reapDelay is how long a namespace is given to end and take its interfaces along.
	reapDelay = time.Second

	addTimeout    = 2 * time.Minute
	delTimeout    = 30 * time.Second
	statusTimeout = 5 * time.Second
)

// Network attaches pods. It is safe for concurrent use.
type Network struct {
	cfg Config
	dir string
	log logrus.FieldLogger

	networks *networks
	run      *runner
	fabric   *fabric
	book     book
	watch    *watcher

	ctx  context.Context // of what nobody has asked for: ends with Close
	stop context.CancelFunc

	// life is held for reading by Add and Del, and for writing by what must not meet a pod half attached: GC and tidying up.
	life    sync.RWMutex
	locks   locks // of attachments, taken after life
	retries retries
	janitor janitor
}

// New opens the network with its state below dir, which it makes when it is missing. The network namespace of the calling thread is
// the host.
func New(cfg Config, dir string, log logrus.FieldLogger) (*Network, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("network configuration: %w", err)
	}
	shared, err := openFabric(dir)
	if err != nil {
		return nil, err
	}
	n := &Network{cfg: cfg, dir: dir, log: log, fabric: shared, run: &runner{binDirs: cfg.BinDirs, dir: dir, plugins: shared.plugins()}}
	n.networks = newNetworks(cfg, dir, n.run, log)
	n.book.intents = intents(filepath.Join(dir, intentsDir))
	n.retries = retries{run: n.retryDel, log: log, first: retryFirst, waiting: map[string]*retry{}}
	n.janitor = janitor{life: &n.life, log: log, tidy: n.tidy, sweep: n.sweep}
	if err := n.open(); err != nil {
		return nil, errors.Join(err, shared.close())
	}
	n.ctx, n.stop = context.WithCancel(context.Background())
	n.watch = newWatcher(n.ctx, cfg.ConfDir, log, n.networks.refresh)
	return n, nil
}

func (n *Network) open() error {
	if err := os.MkdirAll(string(n.book.intents), 0o700); err != nil {
		return fmt.Errorf("make network directory: %w", err)
	}
	if err := n.book.open(n.log); err != nil {
		return err
	}
	return n.networks.open(n.fabric.host)
}

// Status is nil when pods can be attached, and otherwise says why not: which file and plugin, and what about it. It runs no process:
// what plugin processes say of themselves (STATUS) is from the last change of the configuration or, at most, refreshEvery ago.
func (n *Network) Status() error {
	if n.book.isClosed() {
		return fmt.Errorf("%w: %w", ErrNotReady, ErrClosed)
	}
	return n.networks.status(n.ctx)
}

// SetPodCIDRs gives the built-in network its subnets, one a family. They survive a restart of the daemon. Pods that are attached keep
// their addresses and gateways. The built-in bridge keeps a former subnet until the last pod of all has gone: till then no pod is attached to a
// subnet that overlaps it without being it, and what the host sends there goes to the bridge.
func (n *Network) SetPodCIDRs(cidrs []netip.Prefix) error {
	if err := validSubnets(cidrs); err != nil {
		return fmt.Errorf("%w: pod CIDRs: %w", ErrInvalid, err)
	}
	if !n.cfg.Builtin {
		return nil
	}
	return n.networks.setSubnets(cidrs)
}

// Add attaches a pod and returns its addresses; on an error nothing is left of the attempt. One that is attached already is attached
// anew. It goes on for at most two minutes.
func (n *Network) Add(ctx context.Context, a Attachment) (*Result, error) {
	if err := a.validate(); err != nil {
		return nil, err
	}
	n.life.RLock()
	defer n.life.RUnlock()
	defer n.locks.take(a.ID)()
	ctx, cancel := context.WithTimeout(ctx, addTimeout)
	defer cancel()
	if _, old := n.book.has(a.ID); old { // what an Add of the same pod left that nobody finished or undid
		if err := n.del(ctx, a.ID, a.NetNS); err != nil {
			return nil, err
		}
	}
	net, err := n.networks.forPod(a)
	if err != nil {
		return nil, err
	}
	if err := n.run.ready(ctx, net); err != nil {
		return nil, err
	}
	intent, err := a.intent(net)
	if err != nil {
		return nil, err
	}
	pod, err := link.Open(a.NetNS)
	if err != nil {
		return nil, fmt.Errorf("%w: network namespace: %w", ErrInvalid, err)
	}
	defer func() { _ = pod.Close() }()
	if err := n.begin(intent); err != nil {
		return nil, err
	}
	result, err := n.add(ctx, net, intent, pod)
	if err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), delTimeout)
		defer cancel()
		err = fmt.Errorf("attach pod to %s: %w", net, n.book.explain(err))
		if undone := n.release(undo, net, intent, pod); undone != nil {
			err = errors.Join(err, fmt.Errorf("undo: %w", undone))
		}
		return nil, err
	}
	return result, nil
}

// begin records an attachment before anything is done for it.
func (n *Network) begin(i *intent) error {
	err := n.book.begin(i)
	if err != nil && !errors.Is(err, ErrClosed) {
		n.forget(i.ID)
	}
	return err
}

func (n *Network) add(ctx context.Context, net *network, i *intent, pod *link.Space) (*Result, error) {
	if err := loopback.Up(pod); err != nil {
		return nil, err
	}
	owner := plugin.Owner(i.ID, i.IfName)
	n.fabric.tables.Hold(owner) // so that all that the plugins want of nf_tables is one transaction
	commit := func() error { return n.fabric.tables.Commit(owner) }
	got, err := n.run.by(&executor{plugins: n.run.plugins, pod: pod, checked: net, commit: commit}).AddNetworkList(ctx, net.list, i.runtimeConf())
	if err == nil {
		err = commit()
	}
	if err != nil {
		n.fabric.tables.Drop(owner)
		return nil, err
	}
	result, err := newResult(got, n.cfg.IPPreference)
	if err == nil {
		podif.Reachable(ctx, pod, i.IfName, result.IPs)
	}
	return result, err
}

func (n *Network) forget(id string) {
	n.retries.forget(id)
	n.book.forget(id)
	if n.book.empty() {
		n.janitor.tidyLater()
	}
}

// Del releases everything that a pod holds in the network. It may be called any number of times, also for a pod that never was
// attached, whose namespace is gone or whose network is configured no more. It has half a minute, whatever ctx says.
func (n *Network) Del(ctx context.Context, a Attachment) error {
	if err := utils.ValidateContainerID(a.ID); err != nil {
		return fmt.Errorf("%w: id %q: %w", ErrInvalid, a.ID, err)
	}
	n.life.RLock()
	defer n.life.RUnlock()
	defer n.locks.take(a.ID)()
	return n.del(ctx, a.ID, a.NetNS)
}

// del is Del with life and the attachment's lock held, or life for writing.
func (n *Network) del(ctx context.Context, id, netns string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), delTimeout)
	defer cancel()
	i, net, err := n.known(ctx, id)
	if err != nil {
		return err
	}
	if net == nil {
		if err := n.book.intents.remove(id); err != nil {
			return err
		}
		n.forget(id)
		return nil
	}
	if netns == "" {
		netns = i.NetNS
	}
	var pod *link.Space
	if netns != "" {
		pod, err = link.Open(netns)
		if err != nil && !errors.Is(err, link.ErrGone) {
			return fmt.Errorf("open network namespace of pod: %w", err)
		}
	}
	i.NetNS = ""
	if pod != nil {
		defer func() { _ = pod.Close() }()
		i.NetNS = netns
	}
	if err := n.release(ctx, net, i, pod); err != nil {
		return fmt.Errorf("detach pod from %s: %w", net, err)
	}
	return nil
}

// known is what there is to undo: as recorded, and without a record by the configuration in force. The network is nil when there is
// neither, and for a pod on the host's network.
func (n *Network) known(ctx context.Context, id string) (*intent, *network, error) {
	i, err := n.book.intents.read(id)
	if err != nil {
		return nil, nil, err
	}
	if i != nil && i.HostNetwork {
		return i, nil, nil
	}
	if i != nil {
		net, err := i.network()
		if err == nil {
			return i, net, nil
		}
		n.log.WithError(err).WithField("pod", id).Warn("record of attachment is unreadable")
	}
	net, err := n.networks.current()
	if err != nil || n.run.ready(ctx, net) != nil {
		return nil, nil, nil // no record, no configuration that works: nothing that anybody could undo
	}
	i, err = Attachment{ID: id}.intent(net)
	return i, net, err
}

// release runs DEL and forgets the pod. While DEL fails its record stays, and with it the chance to try again, which is taken before long.
func (n *Network) release(ctx context.Context, net *network, i *intent, pod *link.Space) error {
	if err := n.run.in(pod).DelNetworkList(ctx, net.list, i.runtimeConf()); err != nil {
		n.book.disown(i.ID)
		n.retries.later(i.ID)
		return err
	}
	if err := n.book.intents.remove(i.ID); err != nil {
		return err
	}
	n.forget(i.ID)
	return nil
}
