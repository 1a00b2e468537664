package cni

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Annotations by which a pod asks for addresses of its own, for plugins with the capabilities ips and mac; the built-in network has them. An IP
// address may be given with the length of its subnet, which some plugins want; several have commas between them.
const (
	IPsAnnotation = "network.berth/ips"
	MACAnnotation = "network.berth/mac"
)

// requested adds the capabilities that the pod's annotations ask for.
func (a Attachment) requested(caps map[string]any) error {
	if value := a.Annotations[IPsAnnotation]; value != "" {
		var ips []string
		for ip := range strings.SplitSeq(value, ",") {
			ip = strings.TrimSpace(ip)
			_, prefix := netip.ParsePrefix(ip)
			if _, err := netip.ParseAddr(ip); err != nil && prefix != nil {
				return fmt.Errorf("%w: annotation %s: %w", ErrInvalid, IPsAnnotation, err)
			}
			ips = append(ips, ip)
		}
		caps["ips"] = ips
	}
	if value := a.Annotations[MACAnnotation]; value != "" {
		mac, err := net.ParseMAC(value)
		if err == nil && (len(mac) != 6 || mac[0]&1 != 0) {
			err = fmt.Errorf("%s is not the address of an interface", value)
		}
		if err != nil {
			return fmt.Errorf("%w: annotation %s: %w", ErrInvalid, MACAnnotation, err)
		}
		caps["mac"] = mac.String()
	}
	return nil
}
