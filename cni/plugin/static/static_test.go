package static

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/cni/plugin"
)

const conf = `{"ipam":{"addresses":[{"address":"10.0.0.2/24","gateway":"10.0.0.1"},{"address":"fd00::2/64"}],
	"routes":[{"dst":"0.0.0.0/0"}],"dns":{"nameservers":["10.0.0.53"]}}%s}`

func TestAdd(t *testing.T) {
	cases := []struct{ name, more, args, want string }{
		{"configuration", ``, ``, "10.0.0.2/24 10.0.0.1, fd00::2/64 <nil>"},
		{"CNI_ARGS add", ``, `K8S_POD_NAME=x;IP=10.1.0.3/16, fd01::3/64;GATEWAY=fd01::1`, "10.0.0.2/24 10.0.0.1, fd00::2/64 <nil>, 10.1.0.3/16 <nil>, fd01::3/64 fd01::1"},
		{"args replace", `,"args":{"cni":{"ips":["10.2.0.4/24"]}}`, ``, "10.2.0.4/24 <nil>"},
		{"the capability replaces", `,"args":{"cni":{"ips":["10.2.0.4/24"]}},"runtimeConfig":{"ips":["10.3.0.5/24"]}`, `IP=10.1.0.3/16`, "10.3.0.5/24 <nil>"},
	}
	for _, c := range cases {
		r, err := Plugin{}.Add(context.Background(), &plugin.Call{Config: fmt.Appendf(nil, conf, c.more), Args: c.args})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got []string
		for _, ip := range r.IPs {
			got = append(got, ip.Address.String()+" "+ip.Gateway.String())
		}
		if strings.Join(got, ", ") != c.want || len(r.Routes) != 1 || r.DNS.Nameservers[0] != "10.0.0.53" {
			t.Errorf("%s: %s, %v, %v", c.name, got, r.Routes, r.DNS)
		}
	}
}

func TestMistakesNameTheKey(t *testing.T) {
	for data, key := range map[string]string{
		`{}`: "ipam",
		`{"ipam":{"addresses":[{"address":"10.0.0.2"}]}}`:                   "ipam.addresses[0].address",
		`{"ipam":{"addresses":[{"address":"10.0.0.2/24","gateway":"x"}]}}`:  "ipam.addresses[0].gateway",
		`{"ipam":{"routes":[{"dst":"x"}]}}`:                                 "ipam.routes[0]",
		`{"ipam":{},"runtimeConfig":{"ips":["10.0.0.2/24","10.0.0.3/33"]}}`: "runtimeConfig.ips[1]",
		`{"ipam":{},"args":{"cni":{"ips":["x"]}}}`:                          "args.cni.ips[0]",
		`{"ipam":{"addresses":[]},"runtimeConfig":{"ips":"10.0.0.2/24"}}`:   "runtimeConfig.ips",
	} {
		err := Plugin{}.Status(context.Background(), &plugin.Call{Config: []byte(data)})
		bad := &plugin.KeyError{}
		if !errors.As(err, &bad) || bad.Key != key {
			t.Errorf("%s: %v", data, err)
		}
	}
	for args, key := range map[string]string{"IP=10.0.0.2": "IP in CNI_ARGS", "GATEWAY=x": "GATEWAY in CNI_ARGS"} {
		_, err := Plugin{}.Add(context.Background(), &plugin.Call{Config: []byte(`{"ipam":{}}`), Args: args})
		bad := &plugin.KeyError{}
		if !errors.As(err, &bad) || bad.Key != key {
			t.Errorf("%s: %v", args, err)
		}
	}
}

func TestCheck(t *testing.T) {
	result := `,"cniVersion":"1.0.0","prevResult":{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24","gateway":"%s"}]}`
	check := func(more string) error {
		return Plugin{}.Check(context.Background(), &plugin.Call{Config: fmt.Appendf(nil, conf, more)})
	}
	if err := check(fmt.Sprintf(result, "10.0.0.1")); err != nil {
		t.Error(err)
	}
	if err := check(fmt.Sprintf(result, "10.0.0.9")); !errors.Is(err, ErrChanged) {
		t.Errorf("another gateway: %v", err)
	}
	if err := check(""); err == nil {
		t.Error("a check without a result")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(fmt.Sprintf(conf, "")), "IP=10.0.0.1/8;GATEWAY=::")
	f.Fuzz(func(t *testing.T, data []byte, args string) {
		c, err := parse(&plugin.Call{Config: data, Args: args})
		if err != nil {
			return
		}
		for _, a := range c.addresses {
			if !a.prefix.IsValid() {
				t.Fatalf("%+v", c)
			}
		}
	})
}
