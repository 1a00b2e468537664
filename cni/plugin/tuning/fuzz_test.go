package tuning

import (
	"strings"
	"testing"

	"github.com/berth-runtime/berth/cni/plugin"
)

// FuzzVariable: whatever its name, a variable is one of the network's.
func FuzzVariable(f *testing.F) {
	for _, seed := range []string{"net.core.somaxconn", "net/../kernel/panic", "net.ipv4.conf.IFNAME.x", "kernel.panic", "net", "/net/x", "net//"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if path, err := variable(name, "eth0"); err == nil && (!strings.HasPrefix(path, "net/") || strings.Contains("/"+path+"/", "/../")) {
			t.Fatalf("%q is %q", name, path)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"sysctl":{"net.a":"1"},"mac":"02:00:00:00:00:01","args":{"cni":{"txQLen":1}}}`), "MAC=x")
	f.Fuzz(func(t *testing.T, data []byte, args string) {
		if c, err := parse(&plugin.Call{Config: data, Args: args}); (c == nil) != (err != nil) {
			t.Fatalf("%+v, %v", c, err)
		}
	})
}
