package portmap

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/nft"
)

func TestParse(t *testing.T) {
	c, err := parse([]byte(`{"name":"net","snat":false,"runtimeConfig":{"portMappings":[
		{"hostPort":80,"containerPort":8080,"protocol":"TCP"},
		{"hostPort":53,"containerPort":53,"protocol":"udp","hostIP":"::"},
		{"hostPort":54,"containerPort":53,"protocol":"sctp","hostIP":"192.0.2.1"}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if c.snat() {
		t.Error("snat is on")
	}
	v4, v6 := c.ports(netip.MustParsePrefix("10.0.0.2/24")), c.ports(netip.MustParsePrefix("fd00::2/64"))
	if len(v4) != 2 || v4[0].Protocol != nft.TCP || v4[1].HostIP != netip.MustParseAddr("192.0.2.1") || v4[1].Bits != 24 {
		t.Errorf("v4 %+v", v4)
	}
	if len(v6) != 2 || v6[1].Protocol != nft.UDP || v6[1].To != netip.MustParseAddrPort("[fd00::2]:53") {
		t.Errorf("v6 %+v", v6)
	}
}

func TestMistakesNameTheKey(t *testing.T) {
	for conf, key := range map[string]string{
		`{"backend":"ebpf"}`:                           "backend",
		`{"snat":"yes"}`:                               "snat",
		`{"markMasqBit":32}`:                           "markMasqBit",
		`{"markMasqBit":1,"externalSetMarkChain":"X"}`: "externalSetMarkChain",
		`{"runtimeConfig":{"portMappings":[{"hostPort":0,"containerPort":1}]}}`:                   "runtimeConfig.portMappings[0].hostPort",
		`{"runtimeConfig":{"portMappings":[{"hostPort":1,"containerPort":65536}]}}`:               "containerPort",
		`{"runtimeConfig":{"portMappings":[{"hostPort":1,"containerPort":1,"protocol":"icmp"}]}}`: "protocol",
		`{"runtimeConfig":{"portMappings":[{"hostPort":1,"containerPort":1,"hostIP":"x"}]}}`:      "hostIP",
	} {
		_, err := parse([]byte(conf))
		bad := &plugin.KeyError{}
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", conf, err)
		}
	}
}

func TestConditions(t *testing.T) {
	good := map[bool][]string{
		true: {
			"", "! -d 10.0.0.0/8", "-d 192.0.2.1 -i eth0", "ip daddr != 10.0.0.0/8", "ip saddr 10.0.0.0/8 iifname \"eth0\"", "! -i cali+", "iifname != eth*",
		},
		false: {"ip6 daddr fd00::/8", "! -s fd00::1"},
	}
	for v4, list := range good {
		for _, s := range list {
			got, err := conditions(strings.Fields(s), v4)
			if err != nil || (len(got) == 0) != (s == "") {
				t.Errorf("%q: %v, %v", s, got, err)
			}
		}
	}
	for _, s := range []string{"-m conntrack", "ip daddr", "!", "ip daddr fd00::1", "ip", "-d x", "tcp dport 80", "ip daddr != "} {
		if got, err := conditions(strings.Fields(s), true); err == nil {
			t.Errorf("%q is %v", s, got)
		}
	}
}

func TestSupports(t *testing.T) {
	p := &Plugin{}
	for conf, want := range map[string]bool{
		`{}`: true, `{"conditionsV4":["!","-d","10.0.0.0/8"]}`: true, `{"backend":"iptables"}`: true, `{"snat":"broken"}`: true,
		`{"masqAll":true}`: false, `{"masqAll":true,"snat":false}`: true, `{"masqAll":false}`: true,
		`{"externalSetMarkChain":"KUBE-MARK-MASQ"}`: false, `{"conditionsV4":["-m","conntrack"]}`: false,
	} {
		if err := p.Supports([]byte(conf)); (err == nil) != want {
			t.Errorf("%s: %v", conf, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"conditionsV4":["!","-d","10.0.0.0/8"],"runtimeConfig":{"portMappings":[{"hostPort":1,"containerPort":1}]}}`))
	f.Add([]byte(`{"conditionsV6":["iifname","!=","eth*"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parse(data)
		if err != nil {
			return
		}
		_, _ = c.options()
		for _, p := range c.ports(netip.MustParsePrefix("10.0.0.2/24")) {
			if p.Host == 0 || p.To.Port() == 0 {
				t.Fatalf("port %+v", p)
			}
		}
	})
}

// FuzzConditions reads conditions as somebody may have written them, in each family.
func FuzzConditions(f *testing.F) {
	for _, s := range []string{`! -s 10.0.0.0/8`, `iifname != "eth0"`, `ip daddr 192.0.2.0/24 ip saddr == 10.0.0.1`, `-i eth+ -d ::1`, `!`, `ip`, `-d`} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, words string, v4 bool) {
		exprs, err := conditions([]string{words}, v4)
		if (len(exprs) > 0) == (err != nil || len(strings.Fields(words)) == 0) {
			t.Fatalf("%q: %d expressions, %v", words, len(exprs), err)
		}
	})
}
