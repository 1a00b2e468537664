package cni

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/cni/plugin"
)

// logged is a script that notes its calls, and then runs another.
func logged(t *testing.T, script string) (whole string, calls func() string) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "calls")
	return fmt.Sprintf("conf=$(cat)\necho $CNI_COMMAND${CNI_IFNAME:+ $CNI_IFNAME} >> %s\n%s\nexit 0\n", log, script), func() string {
		said, err := os.ReadFile(log)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		_ = os.Remove(log)
		return strings.Join(strings.FieldsFunc(string(said), func(r rune) bool { return r == '\n' }), ", ")
	}
}

// TestRootUnsupportedIsExecuted: what a plugin of berth's can't do is its namesake's in the binary directory, for every command, and nothing else is.
func TestRootUnsupportedIsExecuted(t *testing.T) {
	w := newWorld(t, nil)
	script, calls := logged(t, `[ $CNI_COMMAND = ADD ] && echo "$conf" | sed 's/.*"prevResult":\({.*}\),"runtimeConfig".*/\1/'`)
	w.foreign(t, "portmap", script)
	chain := func(key string) string {
		return `{"cniVersion":"1.1.0","name":"net","plugins":[
			{"type":"bridge","bridge":"br-far","isGateway":true,"ipam":{"type":"host-local","subnet":"10.9.0.0/24","dataDir":"` + w.dir + `/leases"}},
			{"type":"portmap","capabilities":{"portMappings":true}` + key + `}]}`
	}
	for key, want := range map[string]string{``: "", `,"externalSetMarkChain":"MARK"`: "ADD eth0, CHECK eth0, GC, DEL eth0", `,"masqAll":true`: "ADD eth0, CHECK eth0, GC, DEL eth0"} {
		w.write(t, "10-net.conflist", chain(key))
		p := w.pod(t, "p", PortMapping{HostPort: 8080, ContainerPort: 80})
		if err := w.Check(context.Background(), p.Attachment); err != nil {
			t.Errorf("%s: %v", key, err)
		}
		if err := w.GC(context.Background(), []string{p.ID}); err != nil {
			t.Errorf("%s: %v", key, err)
		}
		ours := false
		for _, tab := range w.fabric.tablesNow(t) {
			ours = ours || strings.HasPrefix(tab, "berth-")
		}
		if ours != (want == "") {
			t.Errorf("%s: a table of berth's has its port: %t", key, ours)
		}
		w.del(t, p.Attachment)
		if got := calls(); got != want {
			t.Errorf("%s: the binary was called for %q, want %q", key, got, want)
		}
		p.remove()
	}
}

// tablesNow are the tables with published ports.
func (f *fabric) tablesNow(t *testing.T) []string {
	t.Helper()
	if err := f.tables.Prune(); err != nil {
		t.Fatal(err)
	}
	names, err := f.tables.Names()
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestRootForeignIPAM has an IPAM plugin that berth does not have give an address for each of its plugins that ask one.
func TestRootForeignIPAM(t *testing.T) {
	w := newWorld(t, nil)
	w.outside(t)
	script, calls := logged(t, `[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"1.1.0","ips":[{"address":"10.9.0.7/24","gateway":"10.9.0.1"}],"routes":[{"dst":"198.51.100.0/24"}]}'`)
	w.foreign(t, "far-ipam", script)
	for _, main := range []string{
		`"type":"bridge","bridge":"br-ipam","isGateway":true,"ipMasq":true,"macspoofchk":true`, `"type":"ptp","ipMasq":true`, `"type":"macvlan","master":"uplink"`,
		`"type":"host-device","device":"uplink"`,
	} {
		w.write(t, "10-net.conflist", `{"cniVersion":"1.1.0","name":"net","plugins":[{`+main+`,"ipam":{"type":"far-ipam"}}]}`)
		p := w.pod(t, "p")
		if len(p.IPs) != 1 || p.IPs[0].String() != "10.9.0.7" {
			t.Errorf("%s: addresses %v", main, p.IPs)
		}
		if strings.Contains(main, "bridge") || strings.Contains(main, "ptp") {
			serve(t, p.space, ":80")
			mustAsk(t, w.host, "10.9.0.7:80")
		}
		if err := w.Check(context.Background(), p.Attachment); err != nil {
			t.Errorf("%s: %v", main, err)
		}
		if err := w.GC(context.Background(), []string{p.ID}); err != nil {
			t.Errorf("%s: %v", main, err)
		}
		w.del(t, p.Attachment)
		if got, want := calls(), "ADD eth0, CHECK eth0, GC, DEL eth0"; got != want {
			t.Errorf("%s: calls %q, want %q", main, got, want)
		}
		if l, err := w.host.Link("uplink"); err != nil || l == nil {
			t.Fatalf("%s: the host's interface: %v, %v", main, l, err)
		}
		w.rolledBack(t, p.space, "br-ipam", "uplink")
		p.remove()
	}
}

// TestExecutorRefuses what is no command, what needs a namespace that is gone, and what no plugin understands.
func TestExecutorRefuses(t *testing.T) {
	e := &executor{plugins: map[string]plugin.Plugin{}}
	for name, p := range (&fabric{}).plugins() {
		e.plugins[name] = p
	}
	conf := []byte(`{"cniVersion":"1.0.0","name":"net","type":"static"}`)
	for environ, want := range map[string]string{
		"CNI_COMMAND=DANCE":                     `"DANCE" is not a command`,
		"CNI_COMMAND=ADD":                       errNoNamespace.Error(),
		"CNI_COMMAND=CHECK":                     errNoNamespace.Error(),
		"CNI_COMMAND=ADD CNI_COMMAND=DANCE":     `"DANCE"`, // the last is what a process would see
		"CNI_COMMAND_OF=ADD CNI_COMMANDS=DANCE": `"" is not a command`,
	} {
		if out, err := e.ExecPlugin(t.Context(), inProcess+"static", conf, strings.Fields(environ)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v", environ, out, err)
		}
	}
	out, err := e.ExecPlugin(t.Context(), inProcess+"static", conf, []string{"CNI_COMMAND=VERSION"})
	if err != nil || !strings.Contains(string(out), `"1.1.0"`) {
		t.Errorf("VERSION: %s, %v", out, err)
	}
	if _, err := e.ExecPlugin(t.Context(), inProcess+"static", []byte(`{"cniVersion":1}`), []string{"CNI_COMMAND=STATUS"}); err == nil {
		t.Error("a version that is a number is taken")
	}
	unsupported := []byte(`{"cniVersion":"1.0.0","name":"net","type":"portmap","externalSetMarkChain":"MARK"}`)
	_, err = e.ExecPlugin(t.Context(), inProcess+"portmap", unsupported, []string{"CNI_COMMAND=DEL", "CNI_PATH=/nonesuch:/none"})
	for _, word := range []string{"externalSetMarkChain", "portmap", "/nonesuch, /none"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%v does not name %s", err, word)
		}
	}
}
