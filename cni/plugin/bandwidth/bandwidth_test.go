package bandwidth

import (
	"errors"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/cni/plugin"
)

func TestMistakesNameTheKey(t *testing.T) {
	for conf, key := range map[string]string{
		`{"egressRate":"1M"}`:                                  "egressRate",
		`{"ingressRate":8000}`:                                 "ingressBurst",
		`{"egressBurst":8000}`:                                 "egressRate",
		`{"egressRate":7,"egressBurst":8000}`:                  "egressRate",
		`{"ingressRate":8000,"ingressBurst":99999999999}`:      "ingressBurst",
		`{"runtimeConfig":{"bandwidth":{"ingressRate":8000}}}`: "runtimeConfig.bandwidth.ingressBurst",
		`{"runtimeConfig":{"bandwidth":{"ingressRate":"1M"}}}`: "runtimeConfig.bandwidth.ingressRate",
	} {
		_, err := parse([]byte(conf))
		bad := &plugin.KeyError{}
		if !errors.As(err, &bad) || bad.Key != key {
			t.Errorf("%s: %v", conf, err)
		}
	}
}

func TestConfigurationGoesBeforeCapability(t *testing.T) {
	c, err := parse([]byte(`{"ingressRate":8000,"ingressBurst":80,"runtimeConfig":{"bandwidth":{"egressRate":9000,"egressBurst":90}}}`))
	if err != nil || c.limits != (limits{IngressRate: 8000, IngressBurst: 80}) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestNamesDiffer(t *testing.T) {
	if got := ifb("net", "c0"); len(got) != ifbName || !strings.HasPrefix(got, ifbPrefix) {
		t.Errorf("%s", got)
	}
	if ifb("net", "c0") == ifb("net", "c1") || ifb("net", "c0") == ifb("other", "c0") {
		t.Error("two containers, or networks, have one name")
	}
}

func TestTokenBucket(t *testing.T) {
	q := tokenBucket(8e6, 8e5, 7) // 1 MB/s, 100 kB
	if q.Rate != 1e6 || q.Limit != 25000+100000 || q.LinkIndex != 7 {
		t.Errorf("%+v", q)
	}
	if more := tokenBucket(8e6, 16e5, 7); more.Buffer <= q.Buffer {
		t.Errorf("twice the burst fills in %d ticks, once in %d", more.Buffer, q.Buffer)
	}
}

func TestSupports(t *testing.T) {
	p := &Plugin{}
	if err := p.Supports([]byte(`{"ingressRate":1}`)); err != nil {
		t.Error(err)
	}
	if p.Supports([]byte(`{"unshapedSubnets":["10.0.0.0/8"]}`)) == nil {
		t.Error("limits to some subnets are taken for limits to all")
	}
}
