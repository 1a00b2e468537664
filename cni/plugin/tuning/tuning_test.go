package tuning

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
	"github.com/berth-runtime/berth/cni/plugin/podif"
)

func TestMistakesNameTheKey(t *testing.T) {
	for conf, key := range map[string]string{
		`{"mac":"x"}`:                                      "mac",
		`{"runtimeConfig":{"mac":"x"}}`:                    "runtimeConfig.mac",
		`{"args":{"cni":{"mac":"x"}}}`:                     "args.cni.mac",
		`{"mtu":-1}`:                                       "mtu",
		`{"txQLen":-1}`:                                    "txQLen",
		`{"promisc":"yes"}`:                                "promisc",
		`{"sysctl":{"kernel.panic":"1"}}`:                  "sysctl.kernel.panic",
		`{"sysctl":{"net.a":"1","net.b":"2","net.a":"3"}}`: "sysctl.net.a",
	} {
		err := New().Status(context.Background(), &plugin.Call{Config: []byte(conf)})
		bad := &plugin.KeyError{}
		if !errors.As(err, &bad) || bad.Key != key {
			t.Errorf("%s: %v", conf, err)
		}
	}
}

func TestArgsOverlay(t *testing.T) {
	conf, err := parse(&plugin.Call{Config: []byte(`{"mtu":1400,"promisc":true,"sysctl":{"net.a":"1"},
		"args":{"cni":{"mtu":1300,"promisc":false,"sysctl":{"net.b":"2"},"txQLen":0}}}`)})
	if err != nil {
		t.Fatal(err)
	}
	if conf.MTU != 1300 || conf.promisc() || conf.Sysctl["net.a"] != "1" || conf.Sysctl["net.b"] != "2" || conf.TxQLen == nil || *conf.TxQLen != 0 {
		t.Errorf("%+v", conf)
	}
}

func TestVariable(t *testing.T) {
	for name, want := range map[string]string{
		"net.ipv4.conf.IFNAME.arp_filter": "net/ipv4/conf/eth0/arp_filter",
		"net/ipv4/conf/IFNAME/arp_filter": "net/ipv4/conf/eth0/arp_filter",
		"net.core.somaxconn":              "net/core/somaxconn",
	} {
		if got, err := variable(name, "eth0"); got != want || err != nil {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}

func TestAllowlist(t *testing.T) {
	file := filepath.Join(t.TempDir(), "allowlist.conf")
	s := settings{Sysctl: map[string]string{"net.ipv4.conf.IFNAME.arp_filter": "1"}}
	if err := s.allowed(file); err != nil {
		t.Errorf("without a list: %v", err)
	}
	for list, ok := range map[string]bool{"^net.ipv4.conf.IFNAME.[a-z_]*$\n": true, "\n^net.core\n": false, "": false} {
		if err := os.WriteFile(file, []byte(list), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.allowed(file); ok != (err == nil) || (!ok && !errors.Is(err, ErrNotAllowed)) {
			t.Errorf("%q: %v", list, err)
		}
	}
	if err := os.WriteFile(file, []byte("("), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.allowed(file); err == nil {
		t.Error("a list that nobody can read allows")
	}
}

// TestRootTuning changes an interface and puts it back; what else it does is held against the reference plugin in package cni.
func TestRootTuning(t *testing.T) {
	host := linktest.Host(t)
	pod, _ := linktest.Joined(t, host, "v0")
	dir := t.TempDir()
	call := &plugin.Call{Container: "c", IfName: "eth0", Pod: pod, Config: []byte(`{"cniVersion":"1.0.0","name":"net","type":"tuning","dataDir":"` + dir + `",
		"mtu":1234,"mac":"02:00:00:00:00:07","sysctl":{"net.ipv4.conf.IFNAME.arp_filter":"1"},
		"prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","mac":"02:00:00:00:00:01","sandbox":"x"}]}}`)}
	p := New()
	result, err := p.Add(context.Background(), call)
	if err != nil || result.Interfaces[0].Mac != "02:00:00:00:00:07" {
		t.Fatalf("%+v, %v", result, err)
	}
	if err := p.Check(context.Background(), call); err != nil {
		t.Error(err)
	}
	l, _ := pod.Link("eth0")
	if err := pod.Netlink().LinkSetMTU(l, 1200); err != nil {
		t.Fatal(err)
	}
	if err := p.Check(context.Background(), call); !errors.Is(err, podif.ErrChanged) {
		t.Errorf("another MTU: %v", err)
	}
	for range 2 {
		if err := p.Del(context.Background(), call); err != nil {
			t.Error(err)
		}
	}
	if l, _ = pod.Link("eth0"); l.Attrs().MTU != 1500 {
		t.Errorf("MTU %d afterwards", l.Attrs().MTU)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	if err := os.WriteFile(filepath.Join(dir, "c_eth0.json"), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	call.Pod = nil // and the namespace gone
	if err := p.Del(context.Background(), call); err != nil {
		t.Error(err)
	}
}
