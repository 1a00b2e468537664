package firewall

import (
	"errors"
	"testing"

	"github.com/berth-runtime/berth/cni/plugin"
)

func TestParseMistakesNameTheKey(t *testing.T) {
	for conf, key := range map[string]string{
		`"backend":"ebpf"`:                                             "backend",
		`"backend":7`:                                                  "backend",
		`"ingressPolicy":"closed"`:                                     "ingressPolicy",
		`"iptablesAdminChainName":"-x"`:                                "iptablesAdminChainName",
		`"iptablesAdminChainName":"a b"`:                               "iptablesAdminChainName",
		`"iptablesAdminChainName":"CNI-FORWARD"`:                       "iptablesAdminChainName",
		`"iptablesAdminChainName":"a-name-of-more-than-28-characters"`: "iptablesAdminChainName",
	} {
		_, err := parse([]byte("{" + conf + "}"))
		bad := &plugin.KeyError{}
		if !errors.As(err, &bad) || bad.Key != key {
			t.Errorf("%s: %v", conf, err)
		}
		if err := (&Plugin{}).Status(t.Context(), &plugin.Call{Config: []byte("{" + conf + "}")}); err == nil {
			t.Errorf("%s: the status is fine", conf)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"backend":"iptables","ingressPolicy":"isolated","iptablesAdminChainName":"X"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := parse(data); err == nil && (c.Admin == "" || len(c.Admin) > maxChain) {
			t.Fatalf("%+v", c)
		}
	})
}
