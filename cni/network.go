package cni

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/utils"
	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/bandwidth"
	"github.com/berth-runtime/berth/cni/plugin/bridge"
	"github.com/berth-runtime/berth/cni/plugin/firewall"
	"github.com/berth-runtime/berth/cni/plugin/hostdevice"
	"github.com/berth-runtime/berth/cni/plugin/hostlocal"
	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/loopback"
	"github.com/berth-runtime/berth/cni/plugin/nft"
	"github.com/berth-runtime/berth/cni/plugin/podif"
	"github.com/berth-runtime/berth/cni/plugin/portmap"
	"github.com/berth-runtime/berth/cni/plugin/ptp"
	"github.com/berth-runtime/berth/cni/plugin/stacked"
	"github.com/berth-runtime/berth/cni/plugin/static"
	"github.com/berth-runtime/berth/cni/plugin/tuning"
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
	// idleDelay is how long the built-in bridge and empty tables outlive the last pod: they are dear to make for each.
	idleDelay = 5 * time.Second

	addTimeout    = 2 * time.Minute
	delTimeout    = 30 * time.Second
	statusTimeout = 5 * time.Second
)

// Network attaches pods. It is safe for concurrent use.
type Network struct {
	cfg     Config
	dir     string
	log     logrus.FieldLogger
	builtin builtin
	conf    *confDir
	intents intents

	handlers map[string]*confDir // of runtime handlers with networks of their own

	host    *link.Space
	tables  *nft.Tables
	filter  *nft.Filter
	guard   *nft.Guard
	reaper  *link.Reaper
	bridge  *bridge.Plugin
	sysctls link.Sysctls // of pods
	plugins map[string]plugin.Plugin
	watch   *watcher

	// life is held for reading by Add and Del, and for writing by what must not meet a pod half attached: GC and tidying up.
	life    sync.RWMutex
	claims  claims
	locks   locks // of attachments, taken after life
	retries retries

	mu       sync.Mutex
	subnets  []netip.Prefix  // of the built-in network
	own      *network        // the built-in network, nil until it is wanted
	limited  *network        // the same for pods with limits
	attached map[string]bool // ids with a record; true when we attached them and they are nobody else's garbage
	valid    map[string]bool // ids that the last GC was told of, less what was released since
	idle     *time.Timer
	collects *time.Timer
	reported error // what the STATUS of the plugins said last
	closed   bool
}

// New opens the network with its state below dir, which it makes when it is missing. The network namespace of the calling thread is
// the host.
func New(cfg Config, dir string, log logrus.FieldLogger) (*Network, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("network configuration: %w", err)
	}
	host, err := link.Current()
	if err != nil {
		return nil, fmt.Errorf("open the host's network: %w", err)
	}
	n := &Network{
		cfg: cfg, dir: dir, log: log, host: host,
		conf:    &confDir{dir: cfg.ConfDir},
		intents: intents(filepath.Join(dir, intentsDir)),
		tables:  nft.New(host.FD(), tablePrefix(dir)),
		filter:  nft.NewFilter(host.FD(), tablePrefix(dir)),
		guard:   nft.NewGuard(host.FD(), tablePrefix(dir)),
		reaper:  link.NewReaper(host, reapDelay),
	}
	n.conf.changed = n.logConf
	n.handlers = map[string]*confDir{}
	for handler, dir := range cfg.HandlerConfDirs {
		n.handlers[handler] = &confDir{dir: dir, changed: n.logConf}
	}
	n.retries = retries{run: n.retryDel, log: log, first: retryFirst, waiting: map[string]*retry{}}
	n.bridge = bridge.New(host, n.tables, n.guard, n.reaper)
	n.plugins = n.inProcess()
	if err := n.open(); err != nil {
		return nil, errors.Join(err, host.Close())
	}
	return n, nil
}

// inProcess are the plugins that run here, by type.
func (n *Network) inProcess() map[string]plugin.Plugin {
	return map[string]plugin.Plugin{
		"loopback":    loopback.Plugin{},
		"bridge":      n.bridge,
		"ptp":         ptp.New(n.host, n.tables, n.reaper, &n.sysctls),
		"macvlan":     stacked.New(stacked.Macvlan, n.host, &n.sysctls),
		"ipvlan":      stacked.New(stacked.IPvlan, n.host, &n.sysctls),
		"vlan":        stacked.New(stacked.VLAN, n.host, &n.sysctls),
		"host-device": hostdevice.New(n.host, &n.sysctls),
		"host-local":  hostlocal.New(),
		"static":      static.Plugin{},
		"portmap":     portmap.New(n.host, n.tables),
		"bandwidth":   bandwidth.New(n.host, n.reaper),
		"firewall":    firewall.New(n.host, n.filter),
		"tuning":      tuning.New(),
	}
}

// tablePrefix keeps the tables of daemons with other directories apart.
func tablePrefix(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return "berth-" + hex.EncodeToString(sum[:4])
}

func (n *Network) open() error {
	if err := os.MkdirAll(string(n.intents), 0o700); err != nil {
		return fmt.Errorf("make network directory: %w", err)
	}
	n.builtin = builtin{cfg: n.cfg, dir: n.dir}
	_ = n.host.Do(func() error {
		_, err := os.Stat("/proc/sys/net/ipv6/conf/all/forwarding")
		n.builtin.ipv6 = err == nil
		return nil
	})
	ids, err := n.intents.list()
	if err != nil {
		return err
	}
	n.attached = map[string]bool{}
	for _, id := range ids {
		n.attached[id] = false
	}
	n.claimRecorded(ids)
	if n.cfg.Builtin {
		if n.subnets, err = n.builtin.subnets(); err != nil {
			return err
		}
	}
	n.watch = newWatcher(n.cfg.ConfDir, n.log, n.refresh)
	return nil
}

// network returns the configuration in force.
func (n *Network) network() (*network, error) {
	now, err := n.conf.get()
	if err == nil {
		return now, nil
	}
	if !n.cfg.Builtin || !errors.Is(err, errNoFiles) {
		return nil, fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.own == nil {
		if n.own, err = n.builtinNetwork(false); err != nil {
			return nil, err
		}
	}
	return n.own, nil
}

// networkFor is network for a pod: that of its runtime handler's directory, or, when it is the built-in one and the pod has limits, the one
// that takes them.
func (n *Network) networkFor(a Attachment) (*network, error) {
	if own := n.handlers[a.Handler]; own != nil {
		net, err := own.get()
		if err != nil {
			return nil, fmt.Errorf("%w: runtime handler %s: %w", ErrNotReady, a.Handler, err)
		}
		return net, nil
	}
	net, err := n.network()
	if err != nil || !net.builtin {
		return net, err
	}
	if limits, err := bandwidthOf(a.Annotations); err != nil || limits == nil {
		return net, nil // capabilities says what is wrong with them
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.limited == nil {
		if n.limited, err = n.builtinNetwork(true); err != nil {
			return nil, err
		}
	}
	return n.limited, nil
}

// builtinNetwork makes the built-in network, mu held.
func (n *Network) builtinNetwork(limits bool) (*network, error) {
	list, err := n.builtin.list(n.subnets, limits)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	return newNetwork(list, ""), nil
}

// SetPodCIDRs gives the built-in network its subnets, one a family. They survive a restart of the daemon. Pods that are attached keep
// their addresses; while there are any of another subnet, no further ones are attached (a bridge has one gateway a family).
func (n *Network) SetPodCIDRs(cidrs []netip.Prefix) error {
	if err := validSubnets(cidrs); err != nil {
		return fmt.Errorf("%w: pod CIDRs: %w", ErrInvalid, err)
	}
	if !n.cfg.Builtin {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.builtin.save(cidrs); err != nil {
		return err
	}
	n.subnets, n.own, n.limited = append([]netip.Prefix(nil), cidrs...), nil, nil
	return nil
}

// libcni returns libcni with our executor in a pod, which is nil for what concerns none.
func (n *Network) libcni(pod *link.Space) *libcni.CNIConfig {
	return n.libcniBy(&executor{plugins: n.plugins, pod: pod})
}

func (n *Network) libcniBy(e *executor) *libcni.CNIConfig {
	return libcni.NewCNIConfigWithCacheDir(n.cfg.BinDirs, n.dir, e)
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
	if err := n.releaseOld(ctx, a); err != nil {
		return nil, err
	}
	net, err := n.networkFor(a)
	if err != nil {
		return nil, err
	}
	if err := n.ready(net); err != nil {
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
		err = fmt.Errorf("attach pod to %s: %w", net, n.explain(err))
		if undone := n.release(undo, net, intent, pod); undone != nil {
			err = errors.Join(err, fmt.Errorf("undo: %w", undone))
		}
		return nil, err
	}
	return result, nil
}

// releaseOld releases what an Add of the same pod left that nobody finished or undid.
func (n *Network) releaseOld(ctx context.Context, a Attachment) error {
	n.mu.Lock()
	_, old := n.attached[a.ID]
	n.mu.Unlock()
	if !old {
		return nil
	}
	return n.del(ctx, a.ID, a.NetNS)
}

func (n *Network) begin(i *intent) error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return ErrClosed
	}
	n.attached[i.ID] = true
	n.mu.Unlock()
	err := n.claims.take(i.ID, i.PodNamespace+"/"+i.PodName, i.Ports)
	if err == nil {
		err = n.intents.write(i)
	}
	if err != nil {
		n.forget(i.ID)
		return err
	}
	return nil
}

func (n *Network) add(ctx context.Context, net *network, i *intent, pod *link.Space) (*Result, error) {
	if err := loopback.Up(pod); err != nil {
		return nil, err
	}
	owner := plugin.Owner(i.ID, i.IfName)
	n.tables.Hold(owner) // so that all that the plugins want of nf_tables is one transaction
	commit := func() error { return n.tables.Commit(owner) }
	got, err := n.libcniBy(&executor{plugins: n.plugins, pod: pod, checked: net, commit: commit}).AddNetworkList(ctx, net.list, i.runtimeConf())
	if err == nil {
		err = commit()
	}
	if err != nil {
		n.tables.Drop(owner)
		return nil, err
	}
	result, err := newResult(got, n.cfg.IPPreference)
	if err == nil {
		podif.Reachable(ctx, pod, i.IfName, result.IPs)
	}
	return result, err
}

// explain names the pod that has a port.
func (n *Network) explain(err error) error {
	var taken *nft.TakenError
	if !errors.As(err, &taken) {
		return err
	}
	id := filepath.Dir(taken.Holder) // "id/interface"
	if i, _ := n.intents.read(id); i != nil {
		return fmt.Errorf("%w by pod %s/%s: %w", ErrPortTaken, i.PodNamespace, i.PodName, err)
	}
	return fmt.Errorf("%w: %w", ErrPortTaken, err)
}

func (n *Network) forget(id string) {
	n.retries.forget(id)
	n.claims.drop(id)
	n.mu.Lock()
	delete(n.attached, id)
	delete(n.valid, id)
	n.mu.Unlock()
	n.tidyLater()
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
	i, net, err := n.known(id)
	if err != nil {
		return err
	}
	if net == nil {
		if err := n.intents.remove(id); err != nil {
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
func (n *Network) known(id string) (*intent, *network, error) {
	i, err := n.intents.read(id)
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
	net, err := n.network()
	if err != nil || n.ready(net) != nil {
		return nil, nil, nil // no record, no configuration that works: nothing that anybody could undo
	}
	i, err = Attachment{ID: id}.intent(net)
	return i, net, err
}

// release runs DEL and forgets the pod. While DEL fails its record stays, and with it the chance to try again, which is taken before long.
func (n *Network) release(ctx context.Context, net *network, i *intent, pod *link.Space) error {
	if err := n.libcni(pod).DelNetworkList(ctx, net.list, i.runtimeConf()); err != nil {
		n.mu.Lock()
		if _, ok := n.attached[i.ID]; ok {
			n.attached[i.ID] = false
		}
		n.mu.Unlock()
		n.retries.later(i.ID)
		return err
	}
	if err := n.intents.remove(i.ID); err != nil {
		return err
	}
	n.forget(i.ID)
	return nil
}
