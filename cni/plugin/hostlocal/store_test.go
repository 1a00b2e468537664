package hostlocal

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/berth-runtime/berth/cni/plugin"
)

func TestRangesOfTheRuntime(t *testing.T) {
	b := newBed(t, `"subnet":"10.0.0.0/24"`)
	b.more = `,"runtimeConfig":{"ipRanges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00::/64"}]]}`
	b.want("a", "10.1.0.2/24 fd00::2/64 10.0.0.2/24")
	b.more = `,"runtimeConfig":{"ipRanges":[[{"subnet":"10.0.0.128/25"}]]}`
	if _, err := b.add("b"); err == nil || !strings.Contains(err.Error(), "ipam: overlaps runtimeConfig.ipRanges[0]") {
		t.Errorf("got %v", err)
	}
	b.more = ""
	b.del("a") // whatever ranges there are by now
	if left := b.leases(); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestRequestsNameTheirKey(t *testing.T) {
	b := newBed(t, `"subnet":"10.0.0.0/24"`)
	for more, key := range map[string]string{
		`,"args":{"cni":{"ips":["10.0.0.9","x"]}}`:         "args.cni.ips[1]",
		`,"runtimeConfig":{"ips":["fe80::1%eth0"]}`:        "runtimeConfig.ips[0]",
		`,"runtimeConfig":{"ips":["10.0.0.9","10.2.0.1"]}`: "runtimeConfig.ips[1]",
	} {
		b.more = more
		_, err := b.add("a")
		if bad := (&plugin.KeyError{}); !errors.As(err, &bad) || bad.Key != key {
			t.Errorf("%s: %v", more, err)
		}
	}
	b.more = ""
	_, err := b.addWith("a", "IP=10.0.0")
	if bad := (&plugin.KeyError{}); !errors.As(err, &bad) || bad.Key != "IP in CNI_ARGS" {
		t.Errorf("got %v", err)
	}
	if left := b.leases(); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestNameOfANetwork(t *testing.T) {
	for name, key := range map[string]string{`".."`: "name", `"."`: "name", `""`: "name", `"a/b"`: "name", `"a\u0000"`: "name", `7`: "name"} {
		_, err := New().Add(t.Context(), &plugin.Call{Config: []byte(`{"name":` + name + `,"ipam":{"subnet":"10.0.0.0/24","dataDir":"/nonesuch"}}`)})
		if bad := (&plugin.KeyError{}); !errors.As(err, &bad) || bad.Key != key {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := New().Add(t.Context(), &plugin.Call{Config: []byte(`{"name":"n"}`)})
	if bad := (&plugin.KeyError{}); !errors.As(err, &bad) || bad.Key != "ipam" {
		t.Errorf("no ipam: %v", err)
	}
}

// TestFolderThatIsNone: what stands in the way of a lease is named, nobody gets an address, and all is well when it is gone.
func TestFolderThatIsNone(t *testing.T) {
	b := newBed(t, `"subnet":"10.0.0.0/24"`)
	net := filepath.Join(b.dir, "net")
	for _, c := range []struct {
		what, path string
		dir        bool
		is         error
	}{
		{"the folder is a file", net, false, syscall.ENOTDIR},
		{"the lock is a folder", filepath.Join(net, lockName), true, syscall.EISDIR},
		{"a lease is a folder", filepath.Join(net, "10.0.0.77"), true, syscall.EISDIR},
		{"what came last is a folder", filepath.Join(net, lastPrefix+"0"), true, syscall.EISDIR},
	} {
		if err := os.RemoveAll(net); err != nil {
			t.Fatal(err)
		}
		var err error
		if c.dir {
			err = os.MkdirAll(c.path, 0o700)
		} else {
			err = os.WriteFile(c.path, nil, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.add("a")
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), net) || got != "" {
			t.Errorf("%s: %q, %v", c.what, got, err)
		}
		if left := b.leases(); len(left) > 0 && !c.dir || len(left) > 1 {
			t.Errorf("%s: left %v", c.what, left)
		}
		if err := os.RemoveAll(c.path); err != nil {
			t.Fatal(err)
		}
		b.want("a", "10.0.0.2/24")
		b.del("a")
	}
}

// TestLeasesThatSayNothing: one of a write that was cut off is nobody's. Nobody gets its address until it is collected.
func TestLeasesThatSayNothing(t *testing.T) {
	b := newBed(t, `"subnet":"10.0.0.0/29"`)
	b.want("kept", "10.0.0.2/29")
	for _, torn := range []string{"10.0.0.3", "10.0.0.5"} {
		if err := os.WriteFile(filepath.Join(b.dir, "net", torn), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.want("a", "10.0.0.4/29")
	b.want("b", "10.0.0.6/29")
	if _, err := b.add("c"); !errors.Is(err, ErrExhausted) {
		t.Errorf("got %v", err)
	}
	valid := []types.GCAttachment{{ContainerID: "kept", IfName: "eth0"}, {ContainerID: "a", IfName: "eth0"}, {ContainerID: "b", IfName: "eth0"}}
	if err := b.GC(t.Context(), b.call("", ""), valid); err != nil {
		t.Fatal(err)
	}
	b.want("c", "10.0.0.3/29")
}
