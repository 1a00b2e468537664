package ptp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
	"github.com/berth-runtime/berth/cni/plugin/nft"
	"github.com/berth-runtime/berth/cni/plugin/podif"
)

// bed is the plugin on a host of its own, with an IPAM plugin that gives what the test says and remembers what it was told.
type bed struct {
	*Plugin
	host *link.Space
	ips  []string
	gw   string
	told []string
}

func newBed(t *testing.T) *bed {
	host := linktest.Host(t)
	tables := nft.New(host.FD(), "berth-test")
	reaper := link.NewReaper(host, time.Hour)
	sysctls := &link.Sysctls{}
	t.Cleanup(func() { reaper.Close(); sysctls.Close(); _ = tables.Close() })
	return &bed{Plugin: New(host, tables, reaper, sysctls), host: host, ips: []string{"10.0.0.2/24"}, gw: "10.0.0.1"}
}

func (b *bed) call(t *testing.T, more string) *plugin.Call {
	path, _ := linktest.Pod(t)
	return &plugin.Call{
		Container: "c", IfName: "eth0", NetNS: path, Pod: linktest.Open(t, path),
		Config: []byte(`{"cniVersion":"1.0.0","name":"net","type":"ptp","ipam":{"type":"test"}` + more + `}`),
		IPAM: func(_ context.Context, command, _ string) (*types100.Result, error) {
			b.told = append(b.told, command)
			r := &types100.Result{}
			for _, s := range b.ips {
				ip, n, _ := net.ParseCIDR(s)
				r.IPs = append(r.IPs, &types100.IPConfig{Address: net.IPNet{IP: ip, Mask: n.Mask}, Gateway: net.ParseIP(b.gw)})
			}
			return r, nil
		},
	}
}

// again is the call with the result of its ADD.
func again(c *plugin.Call, r *types100.Result) *plugin.Call {
	out := *c
	var ips []string
	for _, ip := range r.IPs {
		ips = append(ips, fmt.Sprintf(`{"address":"%s","gateway":"%s","interface":1}`, ip.Address.String(), ip.Gateway))
	}
	var on []string
	for _, i := range r.Interfaces {
		on = append(on, fmt.Sprintf(`{"name":"%s","mac":"%s","sandbox":"%s"}`, i.Name, i.Mac, i.Sandbox))
	}
	out.Config = []byte(strings.TrimSuffix(string(c.Config), "}") + `,"prevResult":{"cniVersion":"1.0.0","ips":[` + strings.Join(ips, ",") +
		`],"interfaces":[` + strings.Join(on, ",") + `]}}`)
	return &out
}

func TestRootCheckMissesWhatIsGone(t *testing.T) {
	b, ctx := newBed(t), context.Background()
	c := b.call(t, `,"mtu":1300,"ipMasq":true`)
	r, err := b.Add(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	checked := again(c, r)
	if err := b.Check(ctx, checked); err != nil {
		t.Fatal(err)
	}
	if err := b.Check(ctx, c); err == nil {
		t.Error("a check without a result")
	}
	end, err := b.host.Index(r.Interfaces[0].Name)
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := podif.Addresses(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.host.DeleteRoute(end, whole(addrs[0].Addr())); err != nil {
		t.Fatal(err)
	}
	if err := b.Check(ctx, checked); !errors.Is(err, podif.ErrChanged) {
		t.Errorf("without the host's route: %v", err)
	}
	for range 2 {
		if err := b.Del(ctx, c); err != nil {
			t.Error(err)
		}
	}
	if err := b.Check(ctx, checked); err == nil {
		t.Error("a check after the end")
	}
	if last := b.told[len(b.told)-1]; b.told[0] != "ADD" || last != "CHECK" || !strings.Contains(strings.Join(b.told, " "), "DEL DEL") {
		t.Errorf("the IPAM plugin was told %v", b.told)
	}
}

// TestRootSameNameAgain adds to a namespace whose last pair is still waiting for the reaper.
func TestRootSameNameAgain(t *testing.T) {
	b, ctx := newBed(t), context.Background()
	c := b.call(t, "")
	for range 3 {
		if _, err := b.Add(ctx, c); err != nil {
			t.Fatal(err)
		}
		if err := b.Del(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Add(ctx, c); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Add(ctx, c); !errors.Is(err, podif.ErrExists) {
		t.Errorf("an interface of the name is in use: %v", err)
	}
}

func TestRootNoGateway(t *testing.T) {
	b := newBed(t)
	b.gw = ""
	if _, err := b.Add(context.Background(), b.call(t, "")); err == nil || !strings.Contains(err.Error(), "no gateway") {
		t.Errorf("got %v", err)
	}
	b.ips = nil
	if _, err := b.Add(context.Background(), b.call(t, "")); !errors.Is(err, plugin.ErrNoAddress) {
		t.Errorf("got %v", err)
	}
}

// TestRootDelWithoutNamespace gives back what it can.
func TestRootDelWithoutNamespace(t *testing.T) {
	b, ctx := newBed(t), context.Background()
	c := b.call(t, `,"ipMasq":true`)
	if _, err := b.Add(ctx, c); err != nil {
		t.Fatal(err)
	}
	c.Pod = nil
	if err := b.Del(ctx, c); err != nil {
		t.Fatal(err)
	}
	if last := b.told[len(b.told)-1]; last != "DEL" {
		t.Errorf("the IPAM plugin was told %v", b.told)
	}
	if err := b.Status(ctx, c); err != nil {
		t.Error(err)
	}
	if err := b.GC(ctx, c, nil); err != nil {
		t.Error(err)
	}
}
