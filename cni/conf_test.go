package cni

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

const bridgeList = `{"cniVersion":"1.0.0","name":"NAME","plugins":[{"type":"bridge","ipam":{"type":"host-local","subnet":"10.9.0.0/24"}}]}`

func named(name string) string { return strings.Replace(bridgeList, "NAME", name, 1) }

func TestLoad(t *testing.T) {
	cases := []struct {
		name  string
		files map[string]string
		want  string   // name of the network
		errs  []string // words of the error, or of those passed over
	}{
		{"none", nil, "", []string{"no network configuration"}},
		{"first in order", map[string]string{"20-b.conflist": named("b"), "10-a.conflist": named("a")}, "a", nil},
		{"other names", map[string]string{"00-readme.txt": "x", "05-x.conflist.bak": "x", "10-a.conflist": named("a")}, "a", nil},
		{"single plugin", map[string]string{"10-a.conf": `{"cniVersion":"1.0.0","name":"a","type":"bridge"}`}, "a", nil},
		{"single plugin in json", map[string]string{"10-a.json": `{"cniVersion":"1.0.0","name":"a","type":"bridge"}`}, "a", nil},
		{"invalid before valid", map[string]string{"10-a.conflist": "{", "20-b.conflist": named("b")}, "b", []string{"10-a.conflist"}},
		{"all invalid", map[string]string{"10-a.conflist": "{", "20-b.conf": `{"name":"b"}`}, "", []string{"10-a.conflist", "20-b.conf", "type"}},
		{"no plugins", map[string]string{"10-a.conflist": `{"name":"a"}`}, "", []string{"10-a.conflist", "plugins"}},
		{"bad name", map[string]string{"10-a.conflist": named("../x")}, "", []string{"10-a.conflist", "name"}},
		{"plugins in a folder", map[string]string{"10-a.conflist": `{"name":"a"}`, "a/1.conf": `{"type":"bridge"}`}, "a", nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range c.files {
				put(t, filepath.Join(dir, name), content)
			}
			got, skipped, err := load(dir)
			if (err == nil) != (c.want != "") || (err == nil && got.list.Name != c.want) {
				t.Fatalf("got %v, %v", got, err)
			}
			told := errors.Join(append(skipped, err)...)
			for _, word := range c.errs {
				if told == nil || !strings.Contains(told.Error(), word) {
					t.Errorf("%v does not say %q", told, word)
				}
			}
		})
	}
}

func put(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestConfDirSeesEveryChange(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "net.d")
	c := &confDir{dir: dir}
	is := func(want string) {
		t.Helper()
		got, err := c.get()
		if want == "" && err == nil || want != "" && (err != nil || got.list.Name != want) {
			t.Fatalf("want %q, got %v, %v", want, got, err)
		}
	}
	is("")
	put(t, filepath.Join(dir, "10-a.conflist"), named("a"))
	is("a")
	put(t, filepath.Join(dir, "10-a.conflist"), named("b")) // same size, written in place
	is("b")
	put(t, filepath.Join(dir, "tmp"), named("c"))
	if err := os.Rename(filepath.Join(dir, "tmp"), filepath.Join(dir, "10-a.conflist")); err != nil {
		t.Fatal(err)
	}
	is("c")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	is("")
	put(t, filepath.Join(dir, "10-a.conflist"), named("d"))
	is("d")
}

func TestWatcherFollowsTheDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "yet", "net.d")
	c := &confDir{dir: dir}
	seen := make(chan string, 100)
	w := newWatcher(t.Context(), dir, quiet(), func(context.Context) {
		name := ""
		if n, err := c.get(); err == nil {
			name = n.list.Name
		}
		seen <- name
	})
	defer w.Close()
	until := func(want string) {
		t.Helper()
		deadline := time.After(5 * time.Second) // half of refreshEvery: it must be the event
		for {
			select {
			case got := <-seen:
				if got == want {
					return
				}
			case <-deadline:
				t.Fatalf("%q was not seen", want)
			}
		}
	}
	until("")
	put(t, filepath.Join(dir, "10-a.conflist"), named("a"))
	until("a")
	put(t, filepath.Join(dir, "tmp"), named("b"))
	if err := os.Rename(filepath.Join(dir, "tmp"), filepath.Join(dir, "10-a.conflist")); err != nil {
		t.Fatal(err)
	}
	until("b")
	if err := os.RemoveAll(filepath.Dir(dir)); err != nil {
		t.Fatal(err)
	}
	until("")
	put(t, filepath.Join(dir, "10-a.conflist"), named("c"))
	until("c")
}

// TestWatcherOutlivesAnOverflow: while it looks at the configuration more happens than the kernel keeps, and it goes on watching.
func TestWatcherOutlivesAnOverflow(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Fatal(err)
	}
	most, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	put(t, filepath.Join(dir, "a"), "")
	put(t, filepath.Join(dir, "b"), "")
	seen, goOn := make(chan bool), make(chan bool)
	w := newWatcher(t.Context(), dir, quiet(), func(ctx context.Context) {
		select {
		case seen <- true:
			<-goOn
		case <-ctx.Done():
		}
	})
	defer w.Close()
	<-seen
	for i := range most + 10_000 { // what the watcher has read is not in the kernel's queue
		if err := os.Chmod(filepath.Join(dir, []string{"a", "b"}[i%2]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	goOn <- true
	for range 2 { // for what was read, and for a change after that
		select {
		case <-seen:
			goOn <- true
		case <-time.After(refreshEvery / 2):
			t.Fatal("events are looked at no more")
		}
		put(t, filepath.Join(dir, "c"), "")
	}
}

func FuzzParseList(f *testing.F) {
	f.Add("a.conflist", []byte(named("a")))
	f.Add("a.conf", []byte(`{"cniVersion":"0.4.0","name":"a","type":"bridge"}`))
	f.Add("a.conflist", []byte(`{"name":"a","plugins":[null]}`))
	f.Add("a.conflist", []byte(`null`))
	f.Add("a.conflist", []byte(`{"name":"a","cniVersions":["1.0.0",{}],"plugins":[]}`))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		list, err := parseList(name, data)
		if err == nil && (list.Name == "" || strings.ContainsAny(list.Name, "/\x00")) {
			t.Errorf("accepted a network called %q", list.Name)
		}
	})
}

func TestConfigValidate(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Fatalf("the default: %v", err)
	}
	cases := []struct {
		key    string
		change func(*Config)
	}{
		{"conf_dir", func(c *Config) { c.ConfDir = "net.d" }},
		{"bin_dirs", func(c *Config) { c.BinDirs = []string{"bin"} }},
		{"ip_preference", func(c *Config) { c.IPPreference = "v4" }},
		{"builtin_bridge", func(c *Config) { c.BuiltinBridge = "a-name-of-16-byt" }},
		{"builtin_bridge", func(c *Config) { c.BuiltinBridge = "a/b" }},
		{"builtin_bridge", func(c *Config) { c.BuiltinBridge = "" }},
		{"builtin_mtu", func(c *Config) { c.BuiltinMTU = 100 }},
		{"builtin_subnets", func(c *Config) { c.BuiltinSubnets = nil }},
		{"builtin_subnets", func(c *Config) { c.BuiltinSubnets = []string{"10.0.0.1/24"} }},
		{"builtin_subnets", func(c *Config) { c.BuiltinSubnets = []string{"10.0.0.0/31"} }},
		{"builtin_subnets", func(c *Config) { c.BuiltinSubnets = []string{"10.0.0.0/24", "10.0.1.0/24"} }},
		{"builtin_subnets", func(c *Config) { c.BuiltinSubnets = []string{"x"} }},
	}
	for _, c := range cases {
		cfg := DefaultConfig()
		c.change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.key) {
			t.Errorf("%s: got %v", c.key, err)
		}
		cfg.Builtin = false
		if err := cfg.Validate(); err != nil && strings.HasPrefix(c.key, "builtin") {
			t.Errorf("%s without builtin: got %v", c.key, err)
		}
	}
}

func TestBuiltinListIsWhatPluginsTake(t *testing.T) {
	b := builtin{cfg: DefaultConfig(), dir: t.TempDir(), ipv6: true}
	b.cfg.BuiltinMTU = 1400
	subnets, err := b.subnets()
	if err != nil {
		t.Fatal(err)
	}
	list, err := b.list(subnets, true)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, p := range list.Plugins {
		kinds = append(kinds, p.Network.Type)
	}
	if !reflect.DeepEqual(kinds, []string{"bridge", "portmap", "bandwidth"}) || list.CNIVersion != builtinVersion {
		t.Errorf("plugins %v, version %s", kinds, list.CNIVersion)
	}
	for _, want := range []string{`"10.88.0.0/16"`, `"fd00:88::/64"`, `"mtu":1400`, b.dir + "/networks"} {
		if !strings.Contains(string(list.Plugins[0].Bytes), want) {
			t.Errorf("%s is not in %s", want, list.Plugins[0].Bytes)
		}
	}
	b.ipv6 = false
	if list, err = b.list(subnets, true); err != nil || strings.Contains(string(list.Bytes), "fd00") {
		t.Errorf("without IPv6: %v, %s", err, list.Bytes)
	}
	if _, err := b.list(subnets[1:], true); err == nil {
		t.Error("no subnet that the host can use, and no error")
	}
	cidrs := []netip.Prefix{netip.MustParsePrefix("10.1.2.0/24")}
	if err := b.save(cidrs); err != nil {
		t.Fatal(err)
	}
	if got, err := b.subnets(); err != nil || !reflect.DeepEqual(got, cidrs) {
		t.Errorf("kept %v, %v", got, err)
	}
}
