package cni

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/bandwidth"
	"github.com/berth-runtime/berth/cni/plugin/bridge"
	"github.com/berth-runtime/berth/cni/plugin/firewall"
	"github.com/berth-runtime/berth/cni/plugin/hostdevice"
	"github.com/berth-runtime/berth/cni/plugin/hostlocal"
	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/loopback"
	"github.com/berth-runtime/berth/cni/plugin/nft"
	"github.com/berth-runtime/berth/cni/plugin/portmap"
	"github.com/berth-runtime/berth/cni/plugin/ptp"
	"github.com/berth-runtime/berth/cni/plugin/stacked"
	"github.com/berth-runtime/berth/cni/plugin/static"
	"github.com/berth-runtime/berth/cni/plugin/tuning"
)

// fabric is what the plugins that run here share: the host's network, and what they make in it for pods as a whole.
type fabric struct {
	host    *link.Space
	tables  *nft.Tables
	filter  *nft.Filter
	guard   *nft.Guard
	reports *nft.Reports
	reaper  *link.Reaper
	bridge  *bridge.Plugin
	sysctls link.Sysctls // of pods
}

// openFabric opens it in the namespace of the calling thread; dir keeps daemons apart.
func openFabric(dir string) (*fabric, error) {
	host, err := link.Current()
	if err != nil {
		return nil, fmt.Errorf("open the host's network: %w", err)
	}
	sum := sha256.Sum256([]byte(dir))
	prefix := "berth-" + hex.EncodeToString(sum[:4])
	f := &fabric{
		host: host, tables: nft.New(host.FD(), prefix), filter: nft.NewFilter(host.FD(), prefix), guard: nft.NewGuard(host.FD(), prefix),
		reports: nft.NewReports(host.FD(), prefix), reaper: link.NewReaper(host, reapDelay),
	}
	f.bridge = bridge.New(host, f.tables, f.guard, f.reports, f.reaper)
	return f, nil
}

// plugins are those that run here, by type.
func (f *fabric) plugins() map[string]plugin.Plugin {
	return map[string]plugin.Plugin{
		"loopback":    loopback.Plugin{},
		"bridge":      f.bridge,
		"ptp":         ptp.New(f.host, f.tables, f.reaper, &f.sysctls),
		"macvlan":     stacked.New(stacked.Macvlan, f.host, &f.sysctls),
		"ipvlan":      stacked.New(stacked.IPvlan, f.host, &f.sysctls),
		"vlan":        stacked.New(stacked.VLAN, f.host, &f.sysctls),
		"host-device": hostdevice.New(f.host, &f.sysctls),
		"host-local":  hostlocal.New(),
		"static":      static.Plugin{},
		"portmap":     portmap.New(f.host, f.tables),
		"bandwidth":   bandwidth.New(f.host, f.reaper),
		"firewall":    firewall.New(f.host, f.filter),
		"tuning":      tuning.New(),
	}
}

// keep takes back what owners have in nf_tables that are not in valid.
func (f *fabric) keep(valid map[string]bool) error {
	return errors.Join(f.tables.KeepAll(valid), f.filter.Keep(valid), f.guard.Keep(valid))
}

// prune removes tables that hold nothing.
func (f *fabric) prune() error {
	return errors.Join(f.tables.Prune(), f.filter.Prune(), f.guard.Prune(), f.reports.Prune())
}

// drain waits for what the plugins still have to do.
func (f *fabric) drain() {
	f.reaper.Close()
	f.bridge.Close()
	f.sysctls.Close()
}

func (f *fabric) close() error {
	return errors.Join(f.tables.Close(), f.filter.Close(), f.guard.Close(), f.reports.Close(), f.host.Close())
}
