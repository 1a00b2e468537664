// Package router makes the host forward for its containers. It knows no plugin.
package router

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/berth-runtime/berth/cni/plugin/link"
)

// memoTTL is how long the host's sysctls are believed to be as they were set.
const memoTTL = 10 * time.Second

// Router is a host that can be made to forward. It is safe for concurrent use.
type Router struct {
	host *link.Space
	memo *link.Memo
}

// New makes a router of host, which stays the caller's.
func New(host *link.Space) *Router { return &Router{host: host, memo: link.NewMemo(memoTTL)} }

// Forward lets the host route for the families of addrs.
func (r *Router) Forward(addrs []netip.Prefix) error {
	var v4, v6 bool
	for _, a := range addrs {
		v4, v6 = v4 || a.Addr().Is4(), v6 || a.Addr().Is6()
	}
	if v4 {
		_, err := r.memo.Do("forward4", func() (string, error) {
			return "", r.host.SetSysctls("net/ipv4", link.Sysctl{Name: "ip_forward", Value: "1"})
		})
		if err != nil {
			return err
		}
	}
	if !v6 {
		return nil
	}
	_, err := r.memo.Do("forward6", func() (string, error) { return "", r.host.Do(forward6) })
	return err
}

// forward6 makes the host an IPv6 router. A router hears no routers (accept_ra 1 ends with forwarding, ip-sysctl.rst), so the
// interfaces that did are told to go on (2): a node must not lose its default route to its first pod.
func forward6() error {
	const conf = "/proc/sys/net/ipv6/conf/"
	if now, err := os.ReadFile(conf + "all/forwarding"); err == nil && strings.TrimSpace(string(now)) == "1" {
		return nil
	}
	entries, err := os.ReadDir(conf)
	if err != nil {
		return fmt.Errorf("forward IPv6: %w", err)
	}
	for _, e := range entries {
		path := conf + e.Name() + "/accept_ra"
		now, err := os.ReadFile(path)
		if err != nil || e.Name() == "all" || strings.TrimSpace(string(now)) != "1" {
			continue // an interface that went meanwhile
		}
		if err := os.WriteFile(path, []byte("2"), 0o644); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("keep hearing routers on %s: %w", e.Name(), err)
		}
	}
	if err := os.WriteFile(conf+"all/forwarding", []byte("1"), 0o644); err != nil {
		return fmt.Errorf("forward IPv6: %w", err)
	}
	return nil
}
