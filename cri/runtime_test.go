package cri

import (
	"errors"
	"net/netip"
	"reflect"
	"testing"

	"google.golang.org/grpc/codes"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// kubelet doesn't start when one of the four is empty.
func TestVersion(t *testing.T) {
	got, err := open(t, &fakeRooms{}).Version(t.Context(), &v1.VersionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got.RuntimeName != "berth" || got.RuntimeVersion != "1.2.3" || got.RuntimeApiVersion != "v1" || got.Version != "0.1.0" {
		t.Errorf("%v", got)
	}
}

func TestStatus(t *testing.T) {
	d := open(t, &fakeRooms{})
	got, err := d.Status(t.Context(), &v1.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Info) != 0 {
		t.Errorf("info %v, and none was asked for", got.Info)
	}
	for _, c := range got.Status.Conditions {
		if !c.Status {
			t.Errorf("condition %s is false: %s", c.Type, c.Message)
		}
	}
	var names []string
	for _, h := range got.RuntimeHandlers {
		names = append(names, h.Name)
		if !h.Features.RecursiveReadOnlyMounts || !h.Features.UserNamespaces {
			t.Errorf("handler %q lacks features: %v", h.Name, h.Features)
		}
	}
	if !reflect.DeepEqual(names, []string{"", "berth"}) {
		t.Errorf("handlers %q, want the default without and with its name", names)
	}

	d.rooms.network = errors.Join(errors.New("no configuration in /etc/cni/net.d"), errors.New("no bridge"))
	if got, err = d.Status(t.Context(), &v1.StatusRequest{Verbose: true}); err != nil {
		t.Fatal(err)
	}
	network := got.Status.Conditions[1]
	if network.Type != "NetworkReady" || network.Status || network.Reason == "" || network.Message != "no configuration in /etc/cni/net.d; no bridge" {
		t.Errorf("network condition %v", network)
	}
	if got.Info["config"] != `{"root":"/r"}` {
		t.Errorf("info %v, want JSON", got.Info)
	}
}

func TestRuntimeConfig(t *testing.T) {
	for driver, want := range map[string]v1.CgroupDriver{"systemd": v1.CgroupDriver_SYSTEMD, "cgroupfs": v1.CgroupDriver_CGROUPFS} {
		got, err := open(t, &fakeRooms{driver: driver}).RuntimeConfig(t.Context(), &v1.RuntimeConfigRequest{})
		if err != nil || got.Linux.CgroupDriver != want {
			t.Errorf("%s: %v, %v", driver, got, err)
		}
	}
}

func TestUpdateRuntimeConfig(t *testing.T) {
	d := open(t, &fakeRooms{})
	send := func(cidr string) error {
		_, err := d.UpdateRuntimeConfig(t.Context(), &v1.UpdateRuntimeConfigRequest{
			RuntimeConfig: &v1.RuntimeConfig{NetworkConfig: &v1.NetworkConfig{PodCidr: cidr}}})
		return err
	}
	if err := send(""); err != nil || len(d.rooms.calls) != 0 {
		t.Errorf("no CIDR: %v, calls %v", err, d.rooms.calls)
	}
	if err := send("10.1.0.0/24,fd00::/64"); err != nil {
		t.Error(err)
	}
	want := []any{[]any{"SetPodCIDRs", []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd00::/64")}}}
	if !reflect.DeepEqual(d.rooms.calls, want) {
		t.Errorf("calls %v, want %v", d.rooms.calls, want)
	}
	wantCode(t, "bad CIDR", send("10.1.0.0"), codes.InvalidArgument)
}
