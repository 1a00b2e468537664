package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
)

const (
	builtinName = "berth"
	// builtinVersion is the first of the CNI specification with STATUS and GC.
	builtinVersion = "1.1.0"
)

// builtin is the network that berth brings itself.
type builtin struct {
	cfg  Config
	dir  string // STATE/cni
	ipv6 bool   // the host has it
}

// builtinPlugin is an entry of the list's plugins.
type builtinPlugin map[string]any

// list is its configuration, as somebody would write it into the configuration directory; with limits it takes the capability bandwidth,
// which a pod without limits need not pass.
func (b builtin) list(subnets []netip.Prefix, limits bool) (*libcni.NetworkConfigList, error) {
	var ranges [][]map[string]string
	for _, p := range subnets {
		if p.Addr().Is4() || b.ipv6 {
			ranges = append(ranges, []map[string]string{{"subnet": p.String()}})
		}
	}
	if len(ranges) == 0 {
		return nil, fmt.Errorf("built-in network: the host has no IPv6, and there is no other subnet than %v", subnets)
	}
	bridge := builtinPlugin{
		"type": "bridge", "bridge": b.cfg.BuiltinBridge, "berthOwner": b.dir,
		"isGateway": true, "isDefaultGateway": true, "ipMasq": true, "hairpinMode": true,
		"ipam": builtinPlugin{"type": "host-local", "dataDir": filepath.Join(b.dir, leasesDir), "ranges": ranges},
	}
	if b.cfg.BuiltinMTU > 0 {
		bridge["mtu"] = b.cfg.BuiltinMTU
	}
	if len(b.cfg.BuiltinDirect) > 0 {
		bridge["berthDirect"] = b.cfg.BuiltinDirect
	}
	bridge["capabilities"] = map[string]bool{"ips": true, "mac": true}
	plugins := []builtinPlugin{bridge, {"type": "portmap", "capabilities": map[string]bool{"portMappings": true}}}
	if limits {
		plugins = append(plugins, builtinPlugin{"type": "bandwidth", "capabilities": map[string]bool{"bandwidth": true}})
	}
	data, err := json.Marshal(map[string]any{
		"cniVersion": builtinVersion, "name": builtinName, "loadOnlyInlinedPlugins": true, "plugins": plugins,
	})
	if err != nil {
		return nil, err
	}
	return libcni.NetworkConfFromBytes(data)
}

// errTorn says that a file is not as we wrote it: a power loss cut it off.
var errTorn = errors.New("no subnets")

// subnets are those that the kubelet gave, or else the configuration's. It is errTorn when nobody can tell what the kubelet gave.
func (b builtin) subnets() ([]netip.Prefix, error) {
	data, err := os.ReadFile(b.cidrFile())
	if errors.Is(err, os.ErrNotExist) {
		return b.cfg.subnets()
	}
	if err != nil {
		return nil, fmt.Errorf("read pod CIDRs: %w", err)
	}
	var out []netip.Prefix
	for line := range strings.FieldsSeq(string(data)) {
		p, err := netip.ParsePrefix(line)
		if err != nil {
			return nil, fmt.Errorf("read pod CIDRs from %s: %w: %w", b.cidrFile(), errTorn, err)
		}
		out = append(out, p)
	}
	if err := validSubnets(out); err != nil {
		return nil, fmt.Errorf("read pod CIDRs from %s: %w: %w", b.cidrFile(), errTorn, err)
	}
	return out, nil
}

// save keeps what the kubelet said: it does not say it again when only the runtime restarts.
func (b builtin) save(cidrs []netip.Prefix) error {
	var lines strings.Builder
	for _, p := range cidrs {
		fmt.Fprintln(&lines, p)
	}
	if err := replaceFile(b.cidrFile(), []byte(lines.String())); err != nil {
		return fmt.Errorf("save pod CIDRs: %w", err)
	}
	return nil
}

func (b builtin) cidrFile() string { return filepath.Join(b.dir, "pod-cidrs") }
