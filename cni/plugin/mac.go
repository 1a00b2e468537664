package plugin

import "net"

// MAC is the address that was asked for in one of several places, each a key and its value: the last that is set, nil when none is. The error
// of a value that is no address names its key.
func MAC(places ...[2]string) (net.HardwareAddr, error) {
	var mac net.HardwareAddr
	for _, p := range places {
		if p[1] == "" {
			continue
		}
		var err error
		if mac, err = net.ParseMAC(p[1]); err != nil {
			return nil, Keyf(p[0], "%w", err)
		}
	}
	return mac, nil
}
