package hostlocal

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
)

// Errors of an allocation.
var (
	ErrExhausted = errors.New("no IP addresses available")
	ErrTaken     = errors.New("not available")
	ErrDuplicate = errors.New("duplicate allocation is not allowed")
	ErrMissing   = errors.New("no address is allocated")
)

// Plugin is the host-local plugin.
type Plugin struct {
	mu     sync.Mutex
	stores map[string]*store // by folder
}

var _ plugin.Plugin = (*Plugin)(nil)

// New makes the plugin.
func New() *Plugin { return &Plugin{stores: map[string]*store{}} }

func (p *Plugin) store(c *config) *store {
	dir := filepath.Join(c.dataDir, c.network)
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stores[dir]
	if s == nil {
		s = &store{dir: dir}
		p.stores[dir] = s
	}
	return s
}

// Keys are those of the configuration.
func (*Plugin) Keys() any { return rawConfig{} }

// Supports is always nil: all keys of the reference plugin are known here.
func (p *Plugin) Supports([]byte) error { return nil }

// Add gives the attachment an address of each range set.
func (p *Plugin) Add(ctx context.Context, c *plugin.Call) (*types100.Result, error) {
	conf, err := parse(c.Config, c.Arg("IP"))
	if err != nil {
		return nil, err
	}
	result := &types100.Result{Routes: conf.routes}
	if conf.resolvConf != "" {
		dns, err := readResolvConf(conf.resolvConf)
		if err != nil {
			return nil, plugin.Keyf("ipam.resolvConf", "%w", err)
		}
		result.DNS = *dns
	}
	s := p.store(conf)
	err = s.locked(ctx, func() error {
		got, err := s.allocate(conf, c.Container, c.IfName)
		result.IPs = got
		return err
	})
	if err != nil {
		return nil, err
	}
	return result, nil
}

// allocate takes an address of each set, or none at all.
func (s *store) allocate(conf *config, container, ifName string) (out []*types100.IPConfig, err error) {
	var got []netip.Addr
	defer func() {
		if err != nil {
			for _, addr := range got {
				err = errors.Join(err, s.release(addr))
			}
		}
	}()
	wanted := append([]request(nil), conf.requested...)
	for i, set := range conf.sets {
		var ask netip.Addr
		for j, w := range wanted {
			if _, ok := set.rangeOf(w.addr); ok {
				ask, wanted = w.addr, append(wanted[:j:j], wanted[j+1:]...)
				break
			}
		}
		r, addr, err := s.pick(set, i, ask, container, ifName)
		if err != nil {
			return nil, plugin.Keyf(conf.keys[i], "%s: %w", set, err)
		}
		got = append(got, addr)
		out = append(out, &types100.IPConfig{
			Address: *link.IPNet(netip.PrefixFrom(addr, r.subnet.Bits())),
			Gateway: r.gateway.AsSlice(),
		})
	}
	if len(wanted) > 0 {
		return nil, plugin.Keyf(wanted[0].key, "requested address %s: %w in any range", wanted[0].addr, ErrTaken)
	}
	return out, nil
}

func (s *store) pick(set rangeSet, index int, ask netip.Addr, container, ifName string) (addrRange, netip.Addr, error) {
	owner := key(container, ifName)
	if ask.IsValid() {
		r, _ := set.rangeOf(ask)
		if ask == r.gateway {
			return r, ask, fmt.Errorf("requested address %s is the subnet's gateway: %w", ask, ErrTaken)
		}
		ok, err := s.reserve(ask, owner, index)
		if err == nil && !ok {
			err = fmt.Errorf("requested address %s: %w", ask, ErrTaken)
		}
		return r, ask, err
	}
	for _, addr := range s.owned(container, ifName) {
		if r, ok := set.rangeOf(addr); ok {
			return r, addr, fmt.Errorf("%s has been allocated to %s: %w", addr, container, ErrDuplicate)
		}
	}
	for r, addr := range set.from(s.last(index)) {
		ok, err := s.reserve(addr, owner, index)
		if err != nil || ok {
			return r, addr, err
		}
	}
	return addrRange{}, netip.Addr{}, ErrExhausted
}

// Del releases the attachment's addresses, whatever ranges the configuration has by now.
func (p *Plugin) Del(ctx context.Context, c *plugin.Call) error {
	conf, err := parse(c.Config, "")
	if err != nil {
		return err
	}
	s := p.store(conf)
	return s.locked(ctx, func() error {
		var errs []error
		for _, addr := range s.owned(c.Container, c.IfName) {
			errs = append(errs, s.release(addr))
		}
		return errors.Join(errs...)
	})
}

// Check is ErrMissing when the attachment has no address.
func (p *Plugin) Check(ctx context.Context, c *plugin.Call) error {
	conf, err := parse(c.Config, "")
	if err != nil {
		return err
	}
	s := p.store(conf)
	return s.locked(ctx, func() error {
		if len(s.owned(c.Container, c.IfName)) == 0 {
			return fmt.Errorf("container %s: %w", c.Container, ErrMissing)
		}
		return nil
	})
}

// Status holds the configuration against the plugin's rules.
func (p *Plugin) Status(_ context.Context, c *plugin.Call) error {
	_, err := parse(c.Config, "")
	return err
}

// GC releases the addresses of attachments that are not valid.
func (p *Plugin) GC(ctx context.Context, c *plugin.Call, valid []types.GCAttachment) error {
	conf, err := parse(c.Config, "")
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, a := range valid {
		keep[key(a.ContainerID, a.IfName)] = true
		keep[strings.TrimSpace(a.ContainerID)] = true
	}
	if _, err := os.Stat(filepath.Join(conf.dataDir, conf.network)); errors.Is(err, os.ErrNotExist) {
		return nil // nothing was ever given out, and nothing shall be left behind
	}
	s := p.store(conf)
	return s.locked(ctx, func() error {
		var errs []error
		for addr, owner := range s.leases {
			if !keep[owner] {
				errs = append(errs, s.release(addr))
			}
		}
		return errors.Join(errs...)
	})
}
