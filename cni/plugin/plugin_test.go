package plugin_test

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/berth-runtime/berth/cni/plugin"
)

func TestDecodeNamesTheKey(t *testing.T) {
	into := struct {
		MTU  int `json:"mtu"`
		IPAM struct {
			Type string `json:"type"`
		} `json:"ipam"`
	}{}
	for conf, key := range map[string]string{`{"mtu":"big"}`: "mtu", `{"ipam":{"type":7}}`: "ipam.type"} {
		bad := &plugin.KeyError{}
		if err := plugin.Decode([]byte(conf), &into); !errors.As(err, &bad) || bad.Key != key {
			t.Errorf("%s: %v", conf, err)
		}
	}
	for _, conf := range []string{``, `[]`, `{`, `{"mtu":1}x`} {
		if err := plugin.Decode([]byte(conf), &into); err == nil {
			t.Errorf("%q is read", conf)
		}
	}
}

func TestPrevious(t *testing.T) {
	for conf, want := range map[string]int{
		`{"cniVersion":"1.0.0"}`: -1,
		`{"cniVersion":"1.0.0","prevResult":{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24"}]}}`:               1,
		`{"cniVersion":"0.3.1","prevResult":{"cniVersion":"0.3.1","ips":[{"version":"4","address":"10.0.0.2/24"}]}}`: 1,
	} {
		r, err := plugin.Previous([]byte(conf))
		if err != nil || (r == nil) != (want < 0) || (r != nil && len(r.IPs) != want) {
			t.Errorf("%s: %+v, %v", conf, r, err)
		}
	}
	bad := &plugin.KeyError{}
	for _, conf := range []string{`{"cniVersion":"1.0.0","prevResult":7}`, `{"cniVersion":"9.0.0","prevResult":{}}`} {
		if _, err := plugin.Previous([]byte(conf)); !errors.As(err, &bad) || bad.Key != "prevResult" {
			t.Errorf("%s: %v", conf, err)
		}
	}
	if _, err := plugin.Required([]byte(`{"cniVersion":"1.0.0"}`)); !errors.As(err, &bad) || bad.Key != "prevResult" {
		t.Errorf("none: %v", err)
	}
}

func TestArg(t *testing.T) {
	c := &plugin.Call{Args: "IgnoreUnknown=1;K8S_POD_NAME=web;MAC=;IP=10.0.0.2"}
	for key, want := range map[string]string{"K8S_POD_NAME": "web", "MAC": "", "IP": "10.0.0.2", "POD_NAME": "", "GATEWAY": ""} {
		if got := c.Arg(key); got != want {
			t.Errorf("%s: %q", key, got)
		}
	}
}

// TestIPAM tells an IPAM plugin things, and takes what it gives.
func TestIPAM(t *testing.T) {
	var told []string
	give, refuse := &types100.Result{}, error(nil)
	c := &plugin.Call{IPAM: func(_ context.Context, command, name string) (*types100.Result, error) {
		told = append(told, name+" "+command)
		return give, refuse
	}}
	ctx := context.Background()
	if _, err := c.Allocate(ctx, "x", types.DNS{}); !errors.Is(err, plugin.ErrNoAddress) {
		t.Errorf("nothing: %v", err)
	}
	give = &types100.Result{IPs: []*types100.IPConfig{{}}, DNS: types.DNS{Domain: "ipam"}, Interfaces: []*types100.Interface{{Name: "ipam"}}}
	if r, err := c.Allocate(ctx, "x", types.DNS{}); err != nil || r.DNS.Domain != "ipam" || len(r.Interfaces) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := c.Allocate(ctx, "x", types.DNS{Domain: "own"}); err != nil || r.DNS.Domain != "own" {
		t.Errorf("%+v, %v", r, err)
	}
	if err := errors.Join(c.TellIPAM(ctx, "DEL", ""), c.TellIPAM(ctx, "DEL", "x")); err != nil {
		t.Error(err)
	}
	refuse = errors.New("no")
	if err := c.TellIPAM(ctx, "GC", "x"); !errors.Is(err, refuse) {
		t.Error("a refusal is lost")
	}
	if len(told) != 5 || told[3] != "x DEL" || told[4] != "x GC" {
		t.Errorf("told %q", told)
	}
}

func TestValid(t *testing.T) {
	got := plugin.Valid([]types.GCAttachment{{ContainerID: "a", IfName: "eth0"}, {ContainerID: "b", IfName: "net1"}})
	if len(got) != 2 || !got["a/eth0"] || !got[plugin.Owner("b", "net1")] {
		t.Errorf("%v", got)
	}
}

// TestRelease: an address is given back when it is off the interface, and not while it isn't; an IPAM plugin that needs the interface is asked
// while that is there, and what it says keeps nobody from taking it away.
func TestRelease(t *testing.T) {
	off, no := errors.New("not taken off"), errors.New("not given back")
	for _, c := range []struct {
		process   bool
		off, ipam error
		want      string
	}{
		{false, nil, nil, "off DEL"}, {false, off, nil, "off"}, {false, nil, no, "off DEL"},
		{true, nil, nil, "DEL off"}, {true, off, nil, "DEL off"}, {true, nil, no, "DEL off"},
	} {
		var did []string
		call := &plugin.Call{
			Process: func(name string) bool { return c.process && name == "far" },
			IPAM: func(_ context.Context, command, _ string) (*types100.Result, error) {
				did = append(did, command)
				return nil, c.ipam
			},
		}
		err := call.Release(t.Context(), "far", func() error {
			did = append(did, "off")
			return c.off
		})
		if got := strings.Join(did, " "); got != c.want || !errors.Is(err, cmp.Or(c.off, c.ipam)) {
			t.Errorf("%+v: did %q, %v", c, got, err)
		}
		if call.Looks("") {
			t.Error("no IPAM plugin looks for the interface")
		}
	}
}
