package plugin_test

import (
	"errors"
	"testing"

	"github.com/berth-runtime/berth/cni/plugin"
)

func TestMAC(t *testing.T) {
	a, b := [2]string{"mac", "02:00:00:00:00:01"}, [2]string{"runtimeConfig.mac", "02:00:00:00:00:02"}
	if got, err := plugin.MAC([2]string{"mac", ""}); got != nil || err != nil {
		t.Errorf("nothing asked for: %s, %v", got, err)
	}
	if got, err := plugin.MAC(a, b, [2]string{"last", ""}); got.String() != b[1] || err != nil {
		t.Errorf("two places: %s, %v", got, err)
	}
	_, err := plugin.MAC(a, [2]string{"args.cni.mac", "x"}, b)
	if bad := (&plugin.KeyError{}); !errors.As(err, &bad) || bad.Key != "args.cni.mac" {
		t.Errorf("no address: %v", err)
	}
}
