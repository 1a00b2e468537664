package cni

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"

	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/podif"
	"github.com/berth-runtime/berth/cni/plugin/portmap"
)

// foreign puts a plugin of somebody else into the binary directory.
func (w *world) foreign(t testing.TB, name, script string) {
	t.Helper()
	bin := filepath.Join(w.conf, "..", "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	w.run.binDirs = []string{bin}
	if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestRootForeignPluginFailures(t *testing.T) {
	cases := []struct {
		name, script string
		is           error
		want         string
	}{
		{"hangs", "exec sleep 60", ErrPluginTimeout, "foreign"},
		{"leaves a child with its output", "sleep 60 & exec sleep 60", ErrPluginTimeout, "foreign"},
		{"prints garbage", "echo hello", ErrPluginOutput, "foreign"},
		{"never stops printing", "exec yes", ErrPluginOutput, "more than"},
		{"never stops complaining", "exec yes >&2", ErrPluginOutput, "foreign"},
		{"crashes", "echo went wrong >&2; exit 3", nil, "went wrong"},
		{"says why", `echo '{"code":11,"msg":"try later","details":"busy"}'; exit 1`, nil, "try later; busy"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.foreign(t, "foreign", "[ $CNI_COMMAND = DEL ] && exit 0\n"+c.script)
			w.write(t, "10-net.conflist", `{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"foreign"}]}`)
			a, _ := w.attachment(t, "p")
			ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
			defer cancel()
			start := time.Now()
			_, err := w.Add(ctx, a)
			if err == nil || (c.is != nil && !errors.Is(err, c.is)) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %s", took)
			}
			w.nothingLeft(t)
		})
	}
}

func TestRootForeignPluginInChain(t *testing.T) {
	w := newWorld(t, nil)
	log := filepath.Join(t.TempDir(), "calls")
	w.foreign(t, "tracer", fmt.Sprintf(`conf=$(cat)
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_ARGS" >> %s
[ $CNI_COMMAND = ADD ] && echo "$conf" | sed 's/.*"prevResult":\({.*}\),"type".*/\1/'
exit 0
`, log))
	w.write(t, "10-net.conflist", `{"cniVersion":"1.0.0","name":"net","plugins":[
		{"type":"bridge","bridge":"br-test","isDefaultGateway":true,"ipam":{"type":"host-local","subnet":"10.9.0.0/24","dataDir":"`+w.dir+`/leases"}},
		{"type":"tracer"},
		{"type":"portmap","capabilities":{"portMappings":true}}]}`)
	p := w.pod(t, "p", PortMapping{HostPort: 8080, ContainerPort: 80})
	serve(t, p.space, ":80")
	mustAsk(t, w.host, "127.0.0.1:8080")
	if err := w.Check(context.Background(), p.Attachment); err != nil {
		t.Error(err)
	}
	w.del(t, p.Attachment)
	calls, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	args := "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=p;K8S_POD_INFRA_CONTAINER_ID=" + p.ID + ";K8S_POD_UID=uid-p"
	want := fmt.Sprintf("ADD %[1]s eth0 %[2]s\nCHECK %[1]s eth0 %[2]s\nDEL %[1]s eth0 %[2]s\n", p.ID, args)
	if string(calls) != want {
		t.Errorf("calls\n%swant\n%s", calls, want)
	}
}

func TestRootStatus(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Builtin = false })
	says := func(words ...string) {
		t.Helper()
		err := w.Status()
		if len(words) == 0 {
			if err != nil {
				t.Errorf("not ready: %v", err)
			}
			return
		}
		for _, word := range words {
			if !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), word) {
				t.Errorf("%v does not say %q", err, word)
			}
		}
	}
	says("no network configuration", w.conf)
	w.write(t, "10-net.conflist", `{`)
	says("10-net.conflist", "JSON")
	w.write(t, "10-net.conflist", `{"cniVersion":"1.1.0","name":"net","plugins":[{"type":"bridge","vlan":-1}]}`)
	says("10-net.conflist", "bridge", "vlan")
	w.write(t, "10-net.conflist", `{"cniVersion":"1.1.0","name":"net","plugins":[{"type":"bridge","ipam":{"type":"host-local","subnet":"x"}}]}`)
	says("10-net.conflist", "ipam.subnet")
	w.write(t, "10-net.conflist", `{"cniVersion":"1.1.0","name":"net","plugins":[{"type":"bridge","ipam":{"type":"far-ipam"}}]}`)
	says("10-net.conflist", "far-ipam")
	w.write(t, "10-net.conflist", `{"cniVersion":"1.1.0","name":"net","plugins":[{"type":"portmap","externalSetMarkChain":"MARK"}]}`)
	says("portmap", "externalSetMarkChain", "not found")
	w.write(t, "10-net.conflist", `{"cniVersion":"1.1.0","name":"net","plugins":[{"type":"foreign"}]}`)
	says("foreign")
	w.foreign(t, "foreign", `echo '{"code":50,"msg":"agent is away"}'; [ $CNI_COMMAND != STATUS ]`)
	w.networks.refresh(context.Background())
	says("agent is away")
	w.foreign(t, "foreign", "exit 0")
	w.networks.refresh(context.Background())
	says()
}

func TestRootCheck(t *testing.T) {
	w := newWorld(t, nil)
	port := PortMapping{HostPort: 8080, ContainerPort: 80}
	check := func(p *pod, is error) {
		t.Helper()
		if err := w.Check(context.Background(), p.Attachment); !errors.Is(err, is) {
			t.Errorf("got %v, want %v", err, is)
		}
	}
	p := w.pod(t, "p", port)
	check(p, nil)
	if err := w.fabric.tables.Release(builtinName, p.ID+"/eth0"); err != nil {
		t.Fatal(err)
	}
	check(p, portmap.ErrMissing)
	eth0, err := p.space.Link("eth0")
	if err != nil {
		t.Fatal(err)
	}
	have, err := p.space.Addresses(eth0.Attrs().Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.space.DeleteAddress(eth0.Attrs().Index, have[0].Prefix); err != nil {
		t.Fatal(err)
	}
	check(p, podif.ErrChanged)
	check(&pod{Attachment: Attachment{ID: "stranger"}}, ErrNotAttached)
	p.remove()
	_ = p.space.Close()
	gone := link.ErrGone
	check(p, gone)
	w.del(t, p.Attachment)
	w.nothingLeft(t)
}

// TestRootFirewallChain has a chain with all that nodes usually have: a pod passes a host that drops what it forwards, and nothing of it
// stays, whether it was released or collected.
func TestRootFirewallChain(t *testing.T) {
	w := newWorld(t, nil)
	w.write(t, "10-net.conflist", `{"cniVersion":"1.0.0","name":"net","plugins":[
		{"type":"bridge","bridge":"br-fw","isDefaultGateway":true,"ipMasq":true,
		 "ipam":{"type":"host-local","subnet":"10.9.0.0/24","dataDir":"`+w.dir+`/leases"}},
		{"type":"portmap","capabilities":{"portMappings":true}},
		{"type":"firewall","ingressPolicy":"same-bridge"},
		{"type":"tuning"}]}`)
	far := w.outside(t)
	serve(t, far, ":80")
	conn, drop := w.nftables(t), nftables.ChainPolicyDrop
	table := conn.AddTable(&nftables.Table{Name: "filter", Family: nftables.TableFamilyIPv4})
	conn.AddChain(&nftables.Chain{
		Name: "FORWARD", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &drop,
	})
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	p := w.pod(t, "p", PortMapping{HostPort: 8080, ContainerPort: 80})
	mustAsk(t, p.space, "192.0.2.2:80")
	if err := w.Check(context.Background(), p.Attachment); err != nil {
		t.Error(err)
	}
	lost := w.pod(t, "lost")
	w.restart(t)
	if err := w.GC(context.Background(), []string{p.ID}); err != nil {
		t.Fatal(err)
	}
	mustAsk(t, p.space, "192.0.2.2:80")
	if _, err := ask(lost.space, "192.0.2.2:80"); err == nil {
		t.Error("a pod that was collected still gets through")
	}
	w.del(t, p.Attachment)
	for _, name := range []string{"br-fw", "uplink"} {
		l, _ := w.host.Link(name)
		if err := w.host.DeleteAt(l.Attrs().Index); err != nil {
			t.Fatal(err)
		}
	}
	w.nothingLeft(t)
	left, err := w.nftables(t).ListTables()
	if err != nil || slices.ContainsFunc(left, func(k *nftables.Table) bool { return strings.HasPrefix(k.Name, "berth") }) {
		t.Errorf("tables left: %v, %v", left, err)
	}
}
