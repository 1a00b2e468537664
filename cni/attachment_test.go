package cni

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"reflect"
	"slices"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"
)

func TestCapabilities(t *testing.T) {
	a := Attachment{
		ID: "abc",
		Ports: []PortMapping{
			{HostPort: 8080, ContainerPort: 80, Protocol: "TCP"},
			{HostPort: 0, ContainerPort: 81, Protocol: "TCP"},
			{HostPort: 53, ContainerPort: 53, Protocol: "UDP", HostIP: "::1"},
			{HostPort: 99, ContainerPort: 99},
		},
		Annotations: map[string]string{ingressAnnotation: "10M", egressAnnotation: "1.5Gi", "x": "y"},
		CgroupPath:  "/kubepods/x",
		DNS:         DNS{Servers: []string{"10.0.0.10"}, Searches: []string{"local"}},
	}
	caps, err := a.capabilities()
	if err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(caps)
	want := `{"bandwidth":{"ingressRate":10000000,"ingressBurst":2147483647,"egressRate":1610612736,"egressBurst":2147483647},` +
		`"cgroupPath":"/kubepods/x","dns":{"servers":["10.0.0.10"],"searches":["local"]},` +
		`"io.kubernetes.cri.pod-annotations":{"kubernetes.io/egress-bandwidth":"1.5Gi","kubernetes.io/ingress-bandwidth":"10M","x":"y"},` +
		`"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"},` +
		`{"hostPort":53,"containerPort":53,"protocol":"udp","hostIP":"::1"},{"hostPort":99,"containerPort":99,"protocol":"tcp"}]}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestArgs(t *testing.T) {
	a := Attachment{ID: "abc", PodName: "web", PodNamespace: "default", PodUID: "x;IP=10.0.0.1"}
	want := [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", "web"}, {"K8S_POD_INFRA_CONTAINER_ID", "abc"}}
	if got := a.args(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestValidateAttachment(t *testing.T) {
	bad := []Attachment{
		{ID: ""},
		{ID: "../x"},
		{ID: "a", Ports: []PortMapping{{HostPort: 70000, ContainerPort: 1}}},
		{ID: "a", Ports: []PortMapping{{HostPort: 1, ContainerPort: -1}}},
		{ID: "a", Ports: []PortMapping{{HostPort: 1, ContainerPort: 1, HostIP: "nine"}}},
	}
	for _, a := range bad {
		if err := a.validate(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", a, err)
		}
	}
	_, err := Attachment{ID: "a", Annotations: map[string]string{ingressAnnotation: "fast"}}.capabilities()
	if !errors.Is(err, ErrInvalid) {
		t.Errorf("bandwidth: %v", err)
	}
}

func TestParseQuantity(t *testing.T) {
	good := map[string]uint64{
		"1": 1, "1k": 1000, "1Ki": 1024, "1.5M": 1500000, "100m": 1, "1e3": 1000, "12E3": 12000, "2Ei": 2 << 60, ".5k": 500, "1500u": 1,
	}
	for s, want := range good {
		if got, err := parseQuantity(s); err != nil || got != want {
			t.Errorf("%s: %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "k", "1K", "-1", "1kk", "1e99999", "1 k", "0x10", "100E", "1.2.3", "9e18E", "1/2"} {
		if got, err := parseQuantity(s); err == nil {
			t.Errorf("%q is %d", s, got)
		}
	}
}

func FuzzParseQuantity(f *testing.F) {
	for _, s := range []string{"1", "1.5Gi", "100m", "1e3", "-", "1E"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { _, _ = parseQuantity(s) })
}

func cidr(s string) net.IPNet {
	ip, n, _ := net.ParseCIDR(s)
	return net.IPNet{IP: ip, Mask: n.Mask}
}

func TestNewResult(t *testing.T) {
	r := &types100.Result{
		CNIVersion: "1.0.0",
		Interfaces: []*types100.Interface{{Name: "br0"}, {Name: "eth0", Sandbox: "/ns"}, {Name: "net1", Sandbox: "/ns"}},
		IPs: []*types100.IPConfig{
			{Interface: types100.Int(1), Address: cidr("fd00::2/64")},
			{Interface: types100.Int(2), Address: cidr("10.1.0.2/24")},
			{Interface: types100.Int(0), Address: cidr("10.2.0.2/24")},
			{Interface: types100.Int(1), Address: cidr("10.3.0.2/24")},
			{Address: cidr("10.4.0.2/24")},
		},
	}
	for preference, want := range map[string][]string{
		PreferIPv4: {"10.3.0.2", "10.4.0.2", "fd00::2"},
		PreferIPv6: {"fd00::2", "10.3.0.2", "10.4.0.2"},
		PreferCNI:  {"fd00::2", "10.3.0.2", "10.4.0.2"},
	} {
		got, err := newResult(r, preference)
		if err != nil {
			t.Fatal(err)
		}
		list := slices.Collect(func(yield func(string) bool) {
			for _, ip := range got.IPs {
				yield(ip.String())
			}
		})
		if !reflect.DeepEqual(list, want) {
			t.Errorf("%s: %v", preference, list)
		}
	}
	if _, err := newResult(&types100.Result{CNIVersion: "1.0.0"}, PreferIPv4); err == nil {
		t.Error("a pod without an address is no result")
	}
}

func TestIntentSurvives(t *testing.T) {
	d := intents(t.TempDir())
	list, err := parseList("a.conflist", []byte(named("a")))
	if err != nil {
		t.Fatal(err)
	}
	a := Attachment{ID: "abc", PodName: "web", Ports: []PortMapping{{HostPort: 80, ContainerPort: 80, Protocol: "tcp"}}}
	i, err := a.intent(newNetwork(list, "/x/a.conflist"))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.write(i); err != nil {
		t.Fatal(err)
	}
	got, err := d.read("abc")
	if err != nil || got == nil || got.PodName != "web" || got.File != "/x/a.conflist" {
		t.Fatalf("%+v, %v", got, err)
	}
	net, err := got.network()
	if err != nil || net.list.Name != "a" || len(net.list.Plugins) != 1 || net.list.Plugins[0].Network.Type != "bridge" {
		t.Errorf("%+v, %v", net, err)
	}
	if err := os.WriteFile(d.path("torn"), []byte(`{"id":"to`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := d.read("torn"); got != nil || err != nil {
		t.Errorf("a torn record: %v, %v", got, err)
	}
	ids, err := d.list()
	if err != nil || !reflect.DeepEqual(ids, []string{"abc", "torn"}) {
		t.Errorf("%v, %v", ids, err)
	}
	for range 2 {
		if err := d.remove("abc"); err != nil {
			t.Error(err)
		}
	}
}
