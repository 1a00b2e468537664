package cni

import (
	"context"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"

	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
)

// TestRootTakeOverFromIPTables has the reference plugins attach a pod with their backend iptables, and berth release it, and the reverse. What
// iptables shows then is what it showed before, but for chains that all pods share.
func TestRootTakeOverFromIPTables(t *testing.T) {
	bin := referencePlugins(t)
	if _, err := exec.LookPath("iptables"); err != nil {
		t.Skip("needs iptables")
	}
	w := newWorld(t, func(c *Config) { c.BinDirs = []string{bin} })
	runtimeHere(t, w.host)
	cache := t.TempDir()
	list, err := libcni.NetworkConfFromBytes([]byte(`{"cniVersion":"1.0.0","name":"net","plugins":[
		{"type":"bridge","bridge":"br-inter","isDefaultGateway":true,"ipMasq":true,"ipMasqBackend":"iptables",
		 "ipam":{"type":"host-local","dataDir":"` + w.dir + `/leases","ranges":[[{"subnet":"10.9.0.0/24"}],[{"subnet":"fd00:9::/64"}]]}},
		{"type":"portmap","backend":"iptables","capabilities":{"portMappings":true}},
		{"type":"firewall","backend":"iptables"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	ours := func(pod *link.Space) *libcni.CNIConfig {
		return libcni.NewCNIConfigWithCacheDir([]string{bin}, cache, &executor{plugins: w.run.plugins, pod: pod})
	}
	theirs := func(*link.Space) *libcni.CNIConfig { return libcni.NewCNIConfigWithCacheDir([]string{bin}, cache, nil) }
	// shown is what iptables shows of single pods, in both families.
	shown := func() (lines []string) {
		t.Helper()
		for _, tool := range []string{"iptables", "ip6tables"} {
			for _, table := range []string{"nat", "filter"} {
				out, err := exec.Command(tool, "-t", table, "-S").CombinedOutput()
				if err != nil {
					t.Fatalf("%s -t %s -S: %v: %s", tool, table, err, out)
				}
				for line := range strings.Lines(string(out)) {
					if strings.Contains(line, "10.9.0.") || strings.Contains(line, "fd00:9::") || strings.Contains(line, "CNI-DN-") || strings.Contains(line, `id: "`) {
						lines = append(lines, line)
					}
				}
			}
		}
		return lines
	}
	for name, way := range map[string][2]func(*link.Space) *libcni.CNIConfig{"theirs, then ours": {theirs, ours}, "ours, then theirs": {ours, theirs}} {
		t.Run(name, func(t *testing.T) {
			runtimeHere(t, w.host)
			path, _ := linktest.Pod(t)
			pod := linktest.Open(t, path)
			rt := &libcni.RuntimeConf{
				ContainerID: strings.Fields(name)[2], NetNS: path, IfName: "eth0",
				CapabilityArgs: map[string]any{"portMappings": []map[string]any{{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}}},
			}
			if _, err := way[0](pod).AddNetworkList(context.Background(), list, rt); err != nil {
				t.Fatal(err)
			}
			serve(t, pod, ":80")
			mustAsk(t, w.host, netip.AddrPortFrom(netip.MustParseAddr("10.9.0.1"), 8080).String())
			if before := shown(); strings.HasPrefix(name, "theirs") == (len(before) == 0) {
				t.Errorf("iptables shows %q", before)
			}
			if err := way[1](pod).DelNetworkList(context.Background(), list, rt); err != nil {
				t.Fatal(err)
			}
			if left := shown(); len(left) > 0 {
				t.Errorf("iptables still shows %q", left)
			}
			if _, err := ask(w.host, "10.9.0.1:8080"); err == nil {
				t.Error("the port still leads somewhere")
			}
		})
	}
	if err := w.fabric.keep(nil); err != nil { // what the reference plugins cannot see of ours is collected
		t.Fatal(err)
	}
}
