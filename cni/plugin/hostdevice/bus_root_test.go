package hostdevice

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
)

// fakeSysfs has an interface called spare at every place that a device can have, and one that a program drives.
func fakeSysfs(t *testing.T) sysfs {
	root := t.TempDir()
	for _, folder := range []string{
		"bus/pci/devices/0000:00:05.0/net/spare", "bus/pci/devices/0000:00:06.0/virtio3/net/spare", "bus/auxiliary/devices/mlx5.sf.4/net/spare",
		"devices/pci0000:00/0000:00:05.0/net/spare", "bus/pci/devices/0000:00:07.0", "bus/pci/drivers/vfio-pci",
		"bus/pci/devices/0000:00:08.0/net/gone",
	} {
		if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../../drivers/vfio-pci", filepath.Join(root, "bus/pci/devices/0000:00:07.0/driver")); err != nil {
		t.Fatal(err)
	}
	return sysfs(root)
}

func TestRootByPlace(t *testing.T) {
	host := linktest.Host(t)
	far := linktest.Open(t, func() string { p, _ := linktest.Pod(t); return p }())
	batch := host.Batch()
	batch.AddVeth(link.Veth{Name: "spare", MAC: link.RandomMAC(), Pod: far, PodName: "far", PodMAC: link.RandomMAC()})
	if err := batch.Run(); err != nil {
		t.Fatal(err)
	}
	path, _ := linktest.Pod(t)
	p := New(host, &link.Sysctls{})
	p.sys = fakeSysfs(t)
	call := func(conf string) *plugin.Call {
		return &plugin.Call{
			Container: "c", IfName: "net0", NetNS: path, Pod: linktest.Open(t, path), Config: []byte(`{` + conf + `}`),
			IPAM: func(context.Context, string, string) (*types100.Result, error) { return &types100.Result{}, nil },
		}
	}
	for _, conf := range []string{
		`"pciBusID":"0000:00:05.0"`, `"pciBusID":"0000:00:06.0"`, `"runtimeConfig":{"deviceID":"0000:00:05.0"}`,
		`"runtimeConfig":{"deviceID":"mlx5.sf.4"}`, `"kernelpath":"/sys/devices/pci0000:00/0000:00:05.0"`,
	} {
		c := call(conf)
		r, err := p.Add(t.Context(), c)
		if err != nil || r.Interfaces[0].Mac == "" {
			t.Fatalf("%s: %v, %v", conf, r, err)
		}
		if l, _ := host.Link("spare"); l != nil {
			t.Errorf("%s: still on the host", conf)
		}
		if err := p.Del(t.Context(), c); err != nil {
			t.Fatalf("%s: %v", conf, err)
		}
		if l, _ := host.Link("spare"); l == nil {
			t.Fatalf("%s: not back", conf)
		}
	}

	// What a program drives has no interface.
	c := call(`"pciBusID":"0000:00:07.0"`)
	r, err := p.Add(t.Context(), c)
	if err != nil || len(r.Interfaces) != 1 || r.Interfaces[0].Name != "net0" || r.Interfaces[0].Mac != "" {
		t.Errorf("%v, %v", r, err)
	}
	c.Config = []byte(strings.TrimSuffix(string(c.Config), "}") + `,"cniVersion":"1.0.0","prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"net0"}]}}`)
	if err := errors.Join(p.Check(t.Context(), c), p.Del(t.Context(), c)); err != nil {
		t.Error(err)
	}

	for conf, key := range map[string]string{
		`"pciBusID":"0000:00:09.0"`:           "pciBusID",
		`"pciBusID":"0000:00:08.0"`:           "pciBusID",
		`"runtimeConfig":{"deviceID":"none"}`: "runtimeConfig.deviceID",
		`"kernelpath":"/sys/devices/none"`:    "kernelpath",
	} {
		_, err := p.Add(t.Context(), call(conf))
		bad := &plugin.KeyError{}
		if !errors.As(err, &bad) || bad.Key != key || !errors.Is(err, ErrNoDevice) {
			t.Errorf("%s: %v", conf, err)
		}
	}
}
