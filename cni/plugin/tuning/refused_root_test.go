package tuning

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
	"github.com/berth-runtime/berth/cni/plugin/podif"
)

// TestRootRefused: what the kernel does not take is named, with its value, and Del puts back what was changed before it.
func TestRootRefused(t *testing.T) {
	host := linktest.Host(t)
	pod, mac := linktest.Joined(t, host, "v0")
	dir := t.TempDir()
	call := func(ifName, keys string) *plugin.Call {
		return &plugin.Call{Container: "c", IfName: ifName, Pod: pod, Config: []byte(fmt.Sprintf(`{"cniVersion":"1.0.0","name":"net","type":"tuning","dataDir":%q,%s,
			"prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"x"}]}}`, dir, keys))}
	}
	p := New()
	for _, c := range []struct{ ifName, keys, want string }{
		{"eth0", `"mac":"02:00:00:00:00:07","mtu":99999`, "MTU of eth0 to 99999"},
		{"eth0", `"mac":"01:00:5e:00:00:01"`, "MAC address of eth0 to 01:00:5e:00:00:01"},
		{"eth0", `"mtu":1200,"sysctl":{"net.ipv4.conf.IFNAME.arp_filter":"many"}`, "sysctl.net.ipv4.conf.IFNAME.arp_filter"},
		{"net7", `"mtu":1200`, "net7"},
	} {
		if _, err := p.Add(t.Context(), call(c.ifName, c.keys)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v does not say %q", c.keys, err, c.want)
		}
		for range 2 {
			if err := p.Del(t.Context(), call(c.ifName, c.keys)); err != nil {
				t.Errorf("%s: %v", c.keys, err)
			}
		}
		l, err := pod.Link("eth0")
		if err != nil || l.Attrs().MTU != 1500 || l.Attrs().HardwareAddr.String() != mac.String() {
			t.Errorf("%s: afterwards MTU %d, MAC address %s, %v", c.keys, l.Attrs().MTU, l.Attrs().HardwareAddr, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v, %v", c.keys, left, err)
		}
	}
	// A note of what there was that is torn, while the interface is there.
	good := call("eth0", `"mac":"02:00:00:00:00:07"`)
	if _, err := p.Add(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	other := call("eth0", `"mac":"02:00:00:00:00:08"`)
	if err := p.Check(t.Context(), other); !errors.Is(err, podif.ErrChanged) || !strings.Contains(err.Error(), "MAC address") {
		t.Errorf("another MAC address: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "c_eth0.json"), []byte(`{"mac":"02:0`), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.Del(t.Context(), good); err != nil {
			t.Errorf("with a torn note: %v", err)
		}
	}
}
