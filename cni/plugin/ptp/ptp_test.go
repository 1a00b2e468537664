package ptp

import (
	"errors"
	"testing"

	"github.com/berth-runtime/berth/cni/plugin"
)

func TestMistakesNameTheKey(t *testing.T) {
	for conf, key := range map[string]string{
		`{}`:                                "ipam.type",
		`{"ipam":{"type":"x"},"mtu":-1}`:    "mtu",
		`{"ipam":{"type":"x"},"mtu":"big"}`: "mtu",
		`{"ipam":{"type":"x"},"ipMasqBackend":"ebpf"}`: "ipMasqBackend",
		`{"ipam":{"type":"x"},"ipMasq":"yes"}`:         "ipMasq",
	} {
		_, err := parse([]byte(conf))
		bad := &plugin.KeyError{}
		if !errors.As(err, &bad) || bad.Key != key {
			t.Errorf("%s: %v", conf, err)
		}
	}
}
