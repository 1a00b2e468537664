package cni

import (
	"errors"
	"strings"
	"testing"
)

func TestClaims(t *testing.T) {
	held := PortMapping{HostPort: 80, Protocol: "TCP"}
	single := PortMapping{HostPort: 81, Protocol: "udp", HostIP: "192.0.2.1"}
	cases := []struct {
		name  string
		port  PortMapping
		taken bool
	}{
		{"the same", held, true},
		{"no protocol is tcp", PortMapping{HostPort: 80}, true},
		{"on one address of all", PortMapping{HostPort: 80, HostIP: "10.0.0.1"}, true},
		{"another protocol", PortMapping{HostPort: 80, Protocol: "sctp"}, false},
		{"another port", PortMapping{HostPort: 82}, false},
		{"a single address again", single, true},
		{"all addresses", PortMapping{HostPort: 81, Protocol: "udp", HostIP: "0.0.0.0"}, true},
		{"another address", PortMapping{HostPort: 81, Protocol: "udp", HostIP: "192.0.2.2"}, false},
		{"the same address in IPv6's form", PortMapping{HostPort: 81, Protocol: "udp", HostIP: "::ffff:192.0.2.1"}, true},
		{"no port of the host", PortMapping{ContainerPort: 80}, false},
	}
	for _, c := range cases {
		var all claims
		if err := all.take("a", "default/holder", []PortMapping{held, single}); err != nil {
			t.Fatal(err)
		}
		err := all.take("b", "default/thief", []PortMapping{c.port})
		if c.taken != errors.Is(err, ErrPortTaken) || c.taken && !strings.Contains(err.Error(), "default/holder") {
			t.Errorf("%s: %v", c.name, err)
		}
		if err := all.take("a", "default/holder", []PortMapping{held}); err != nil {
			t.Errorf("%s: the holder again: %v", c.name, err)
		}
		all.drop("a")
		if err := all.take("b", "default/thief", []PortMapping{c.port}); err != nil {
			t.Errorf("%s: after the holder's end: %v", c.name, err)
		}
	}
}

func TestRequestedAddresses(t *testing.T) {
	caps, err := Attachment{ID: "p", Annotations: map[string]string{IPsAnnotation: "10.88.0.9, fd00:88::9/64", MACAnnotation: "02-00-00-00-00-09"}}.capabilities()
	if err != nil || caps["mac"] != "02:00:00:00:00:09" || strings.Join(caps["ips"].([]string), " ") != "10.88.0.9 fd00:88::9/64" {
		t.Errorf("%v, %v", caps, err)
	}
	for key, value := range map[string]string{IPsAnnotation: "10.88.0", MACAnnotation: "01:00:00:00:00:09"} {
		if _, err := (Attachment{ID: "p", Annotations: map[string]string{key: value}}).capabilities(); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", value, err)
		}
	}
}
