package hostdevice

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
	"github.com/berth-runtime/berth/cni/plugin/podif"
)

func TestMistakesNameTheKey(t *testing.T) {
	for conf, key := range map[string]string{
		`{}`:             "device",
		`{"hwaddr":"x"}`: "hwaddr",
		`{"device":7}`:   "device",

		`{"pciBusID":"../x"}`:                     "pciBusID",
		`{"pciBusID":".."}`:                       "pciBusID",
		`{"runtimeConfig":{"deviceID":"a/b"}}`:    "runtimeConfig.deviceID",
		`{"kernelpath":"/dev/x"}`:                 "kernelpath",
		`{"kernelpath":"/sys/devices/../../etc"}`: "kernelpath",
	} {
		_, err := parse([]byte(conf))
		bad := &plugin.KeyError{}
		if !errors.As(err, &bad) || bad.Key != key {
			t.Errorf("%s: %v", conf, err)
		}
	}
}

func TestRootHostDevice(t *testing.T) {
	host := linktest.Host(t)
	far := linktest.Open(t, func() string { p, _ := linktest.Pod(t); return p }())
	mac := link.RandomMAC()
	if err := linktest.AddVeth(host, link.Veth{Name: "spare", MAC: mac, Pod: far, PodName: "far", PodMAC: link.RandomMAC()}); err != nil {
		t.Fatal(err)
	}
	path, _ := linktest.Pod(t)
	pod := linktest.Open(t, path)
	p := New(host, &link.Sysctls{})
	ctx := context.Background()
	for _, by := range []string{`"device":"spare"`, fmt.Sprintf(`"hwaddr":"%s"`, mac)} {
		c := &plugin.Call{Container: "c", IfName: "net0", NetNS: path, Pod: pod, Config: []byte(`{` + by + `}`)}
		result, err := p.Add(ctx, c)
		if err != nil || result.Interfaces[0].Name != "net0" || result.Interfaces[0].Mac != mac.String() {
			t.Fatalf("%s: %+v, %v", by, result, err)
		}
		if l, _ := host.Link("spare"); l != nil {
			t.Errorf("%s: still on the host", by)
		}
		if _, err := p.Add(ctx, c); !errors.Is(err, ErrNoDevice) {
			t.Errorf("%s: taken twice: %v", by, err)
		}
		for range 2 {
			if err := p.Del(ctx, c); err != nil {
				t.Errorf("%s: %v", by, err)
			}
		}
		if l, _ := host.Link("spare"); l == nil || l.Attrs().Alias != "" {
			t.Fatalf("%s: not back: %v", by, l)
		}
	}
	taken := &plugin.Call{Container: "c", IfName: "lo", NetNS: path, Pod: pod, Config: []byte(`{"device":"spare"}`)}
	if _, err := p.Add(ctx, taken); !errors.Is(err, podif.ErrExists) {
		t.Errorf("a name that is taken: %v", err)
	}
	if l, _ := host.Link("spare"); l == nil {
		t.Error("a failed move has moved")
	}
}
