package cni

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
)

// maxLinkName is what the kernel takes for the name of an interface: IFNAMSIZ (16) with its final zero.
const maxLinkName = 15

// IP preferences: which family of a pod with both is its first address.
const (
	PreferIPv4 = "ipv4"
	PreferIPv6 = "ipv6"
	PreferCNI  = "cni" // the order of the CNI result
)

// Config says where the node's network configuration is, and what berth does when there is none.
type Config struct {
	// ConfDir holds the CNI configuration files; the first valid one in lexical order is the pod network.
	ConfDir string `toml:"conf_dir"`
	// HandlerConfDirs are directories like ConfDir, for the pods of single runtime handlers, by the handler's name.
	HandlerConfDirs map[string]string `toml:"handler_conf_dirs"`
	// BinDirs are searched in order for plugins that berth does not run in process.
	BinDirs []string `toml:"bin_dirs"`
	// IPPreference orders the addresses of a pod: "ipv4", "ipv6", or "cni" for the order of the CNI result.
	IPPreference string `toml:"ip_preference"`
	// Builtin makes berth bring a bridge network of its own when ConfDir holds no configuration file.
	Builtin bool `toml:"builtin"`
	// BuiltinBridge is the bridge of that network, at most 15 bytes. Two daemons on a node need two.
	BuiltinBridge string `toml:"builtin_bridge"`
	// BuiltinSubnets are its address ranges, one a family, until the kubelet says which it wants (UpdateRuntimeConfig).
	BuiltinSubnets []string `toml:"builtin_subnets"`
	// BuiltinDirect are subnets to which its pods go by their own addresses, not behind the node's: those of other nodes' pods.
	BuiltinDirect []string `toml:"builtin_direct"`
	// BuiltinMTU is the MTU of its interfaces, 0 for the kernel's default.
	BuiltinMTU int `toml:"builtin_mtu"`
}

// DefaultConfig is what a node uses that configures nothing.
func DefaultConfig() Config {
	return Config{
		ConfDir:         "/etc/cni/net.d",
		HandlerConfDirs: map[string]string{},
		BinDirs:         []string{"/opt/cni/bin"},
		IPPreference:    PreferIPv4,
		Builtin:         true,
		BuiltinBridge:   "berth0",
		BuiltinSubnets:  []string{"10.88.0.0/16", "fd00:88::/64"},
		BuiltinDirect:   []string{},
	}
}

// Validate returns every mistake in c, each named by its key.
func (c Config) Validate() error {
	var errs []error
	if !filepath.IsAbs(c.ConfDir) {
		errs = append(errs, fmt.Errorf("conf_dir %q: not an absolute path", c.ConfDir))
	}
	for _, handler := range slices.Sorted(maps.Keys(c.HandlerConfDirs)) {
		dir := c.HandlerConfDirs[handler]
		if !filepath.IsAbs(dir) || handler == "" {
			errs = append(errs, fmt.Errorf("handler_conf_dirs %q = %q: not a handler's name and an absolute path", handler, dir))
		}
	}
	for _, dir := range c.BinDirs {
		if !filepath.IsAbs(dir) {
			errs = append(errs, fmt.Errorf("bin_dirs %q: not an absolute path", dir))
		}
	}
	switch c.IPPreference {
	case PreferIPv4, PreferIPv6, PreferCNI:
	default:
		errs = append(errs, fmt.Errorf("ip_preference %q: none of ipv4, ipv6, cni", c.IPPreference))
	}
	if c.Builtin {
		errs = append(errs, c.validateBuiltin())
	}
	return errors.Join(errs...)
}

func (c Config) validateBuiltin() error {
	var errs []error
	if err := validLinkName(c.BuiltinBridge); err != nil {
		errs = append(errs, fmt.Errorf("builtin_bridge %q: %w", c.BuiltinBridge, err))
	}
	if c.BuiltinMTU != 0 && (c.BuiltinMTU < 576 || c.BuiltinMTU > 65535) {
		errs = append(errs, fmt.Errorf("builtin_mtu %d: not between 576 and 65535", c.BuiltinMTU))
	}
	if _, err := c.subnets(); err != nil {
		errs = append(errs, err)
	}
	for _, s := range c.BuiltinDirect {
		if _, err := netip.ParsePrefix(s); err != nil {
			errs = append(errs, fmt.Errorf("builtin_direct %q: %w", s, err))
		}
	}
	return errors.Join(errs...)
}

func (c Config) subnets() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range c.BuiltinSubnets {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("builtin_subnets %q: %w", s, err)
		}
		out = append(out, p)
	}
	if err := validSubnets(out); err != nil {
		return nil, fmt.Errorf("builtin_subnets: %w", err)
	}
	return out, nil
}

// validSubnets holds prefixes against what the built-in network can use: one a family, with room for a gateway and a pod.
func validSubnets(prefixes []netip.Prefix) error {
	if len(prefixes) == 0 {
		return errors.New("no subnet")
	}
	var v4, v6 int
	for _, p := range prefixes {
		switch {
		case !p.IsValid():
			return errors.New("invalid subnet")
		case p != p.Masked():
			return fmt.Errorf("%s has host bits set, its network is %s", p, p.Masked())
		case p.Bits() > p.Addr().BitLen()-2:
			return fmt.Errorf("%s is too small for a gateway and a pod", p)
		case p.Addr().Is4():
			v4++
		default:
			v6++
		}
	}
	if v4 > 1 || v6 > 1 {
		return fmt.Errorf("more than one subnet of a family in %v", prefixes)
	}
	return nil
}

// validLinkName follows dev_valid_name of the kernel.
func validLinkName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return errors.New("not the name of an interface")
	case len(name) > maxLinkName:
		return fmt.Errorf("longer than %d bytes", maxLinkName)
	case strings.ContainsAny(name, "/: \t\n\v\f\r"):
		return errors.New("holds a character that the name of an interface cannot have")
	}
	return nil
}
