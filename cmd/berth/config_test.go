package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/imagestore/signature"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/pelletier/go-toml/v2"
)

// The example is the defaults: decoded over nothing it gives them, so it has every
// key that isn't zero, and it has the others too.
func TestExampleIsTheDefaults(t *testing.T) {
	var got config
	if err := decodeConfig("example.toml", []byte(exampleConfig), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(defaultConfig(), got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("-defaults +example:\n%s", diff)
	}
	var tree map[string]any
	if err := toml.Unmarshal([]byte(exampleConfig), &tree); err != nil {
		t.Fatal(err)
	}
	for _, key := range configKeys() {
		if !has(tree, strings.Split(key, ".")) {
			t.Errorf("the example doesn't show %s", key)
		}
	}
	if err := got.Validate(); err != nil {
		t.Errorf("the defaults aren't valid: %v", err)
	}
}

// Every key has a comment above it.
func TestExampleIsCommented(t *testing.T) {
	lines := strings.Split(exampleConfig, "\n")
	for i, line := range lines {
		if strings.Contains(line, " = ") && !strings.HasPrefix(line, "#") && !strings.HasPrefix(lines[i-1], "#") {
			t.Errorf("no comment above %q", line)
		}
	}
}

func TestDocumentationNamesEveryKey(t *testing.T) {
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range configKeys() {
		if !bytes.Contains(page, []byte("`"+key+"`")) {
			t.Errorf("docs/configuration.md doesn't name %s", key)
		}
	}
}

// configKeys lists the keys that a file can have, by the structs' own tags.
func configKeys() []string { return keysOf(reflect.TypeFor[config](), "") }

func keysOf(t reflect.Type, prefix string) []string {
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		key := f.Tag.Get("toml")
		switch {
		case key == "-":
		case f.Type.Kind() == reflect.Struct:
			out = append(out, keysOf(f.Type, prefix+key+".")...)
		default:
			out = append(out, prefix+key)
		}
	}
	return out
}

func has(tree map[string]any, path []string) bool {
	value, ok := tree[path[0]]
	if len(path) == 1 || !ok {
		return ok
	}
	below, ok := value.(map[string]any)
	return ok && has(below, path[1:])
}

// What is written reads back to the same.
func TestWriteConfig(t *testing.T) {
	cfg := defaultConfig()
	cfg.Root, cfg.Network.BuiltinMTU, cfg.Images.Pinned = "/elsewhere", 1400, []string{"a", "b"}
	var text bytes.Buffer
	if err := writeConfig(&text, cfg); err != nil {
		t.Fatal(err)
	}
	var back config
	if err := decodeConfig("text", text.Bytes(), &back); err != nil {
		t.Fatalf("%v in\n%s", err, text.String())
	}
	if diff := cmp.Diff(cfg, back, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestReadConfigErrors(t *testing.T) {
	for text, want := range map[string][]string{
		"root = \"/r\"\nrot = 1\n[images]\nplatfrom = \"x\"\n": {
			":2:1: no such key: rot", ":4:1: no such key: images.platfrom",
		},
		"[nope]\nx = 1\n":                            {":1:2: no such key: nope"},
		"root = 5\n":                                 {":1:8: ", "integer, where string is wanted"},
		"[sandbox]\nshm_size = \"five\"\n":           {":2:12: ", "string, where int64 is wanted"},
		"root = \"a\n":                               {":1:"},
		"[images]\npull_progress_timeout = \"soon\"": {":2:25: ", "soon"},
	} {
		path := filepath.Join(t.TempDir(), "c.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := readConfig(path)
		if err == nil {
			t.Errorf("%q was taken", text)
			continue
		}
		for _, part := range want {
			if part[0] == ':' {
				part = path + part
			}
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q: error %q doesn't say %q", text, err, part)
			}
		}
	}
}

func TestConfigValidate(t *testing.T) {
	for want, change := range map[string]func(*config){
		"root":                       func(c *config) { c.Root = "var/lib" },
		"state":                      func(c *config) { c.State = "" },
		"socket":                     func(c *config) { c.Socket = "berth.sock" },
		"is 104 bytes long":          func(c *config) { c.State = "/" + strings.Repeat("x", 104-len("//berth.sock")) },
		"keeper":                     func(c *config) { c.Keeper = "berth-keeper" },
		"log.level":                  func(c *config) { c.Log.Level = "loud" },
		"log.format":                 func(c *config) { c.Log.Format = "xml" },
		"images.max_image_bytes":     func(c *config) { c.Images.MaxImageBytes = -1 },
		"images.max_zstd_window":     func(c *config) { c.Images.MaxZstdWindow = 8<<20 - 1 },
		"max_zstd_window 134217729":  func(c *config) { c.Images.MaxZstdWindow = 128<<20 + 1 },
		"sandbox.cgroup_driver":      func(c *config) { c.Sandbox.CgroupDriver = "none" },
		"\nimages.max_image_entries": func(c *config) { c.Images.MaxImageBytes, c.Images.MaxImageEntries = 0, 0 },
		"\nimages.verification.rules[0]": func(c *config) {
			c.Images.Verification.Default, c.Images.Verification.Rules = "x", []signature.Rule{{}}
		},
		"\nlog.format \"xml\": must be text or json\nimages.max": func(c *config) {
			c.Log, c.Images.MaxImageBytes = logConfig{"loud", "xml"}, -1
		},
		"\nnetwork.ip_preference":     func(c *config) { c.Network.ConfDir, c.Network.IPPreference = "x", "ipv5" },
		"network.conf_dir \"x\": not": func(c *config) { c.Network.ConfDir, c.Network.IPPreference = "x", "ipv5" },
	} {
		cfg := defaultConfig()
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// run executes the command as a shell would.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := newRootCommand()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestConfigCommand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.toml")
	if err := os.WriteFile(path, []byte("root = \"/from/file\"\nstate = \"/from/file\"\n[network]\nbin_dirs = [\"/a\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := run(t, "config", "--config", path, "--state", "/from/flag", "--cni-bin-dir", "/b,/c", "--cni-bin-dir", "/d")
	if err != nil {
		t.Fatal(err)
	}
	var got config
	if err := decodeConfig("output", []byte(out), &got); err != nil {
		t.Fatal(err)
	}
	want := defaultConfig()
	want.Root, want.State, want.Network.BinDirs = "/from/file", "/from/flag", []string{"/b", "/c", "/d"}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	if out, err = run(t, "config", "default"); err != nil || out != exampleConfig {
		t.Errorf("config default: %v, %q", err, out)
	}
	if out, err = run(t, "config", "check", path); err != nil || out != path+": good\n" {
		t.Errorf("config check: %q, %v", out, err)
	}
	if out, err = run(t, "config", "check", "--config", path); err != nil || out != "configuration in effect: good\n" {
		t.Errorf("config check of the file in effect: %q, %v", out, err)
	}
	if _, err = run(t, "config", "--config", path+".missing"); err == nil {
		t.Error("a missing file that was asked for is no error")
	}
	if _, err = run(t, "config", "--config", path, "--log-level", "loud"); err == nil || !strings.HasPrefix(err.Error(), "--log-level: log.level") {
		t.Errorf("a bad flag: %v", err)
	}
}

// Each flag reaches its key.
func TestFlags(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.toml")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for flag, want := range map[string]string{
		"root": "root", "state": "state", "socket": "socket", "keeper": "keeper",
		"registry-config-dir": "images.registry_config_dir", "cni-conf-dir": "network.conf_dir",
	} {
		out, err := run(t, "config", "--config", path, "--"+flag, "/given")
		if err != nil {
			t.Errorf("--%s: %v", flag, err)
			continue
		}
		var tree map[string]any
		if err := toml.Unmarshal([]byte(out), &tree); err != nil {
			t.Fatal(err)
		}
		value := any(tree)
		for _, key := range strings.Split(want, ".") {
			value = value.(map[string]any)[key]
		}
		if value != "/given" {
			t.Errorf("--%s: %s is %v", flag, want, value)
		}
	}
}

// TestConfigErrorsSayWhereFrom: all of them at once, each with the flag or the file that its value is from; a file that isn't there is none.
func TestConfigErrorsSayWhereFrom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.toml")
	if err := os.WriteFile(path, []byte("keeper = \"k\"\n[log]\nformat = \"xml\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	long := "/" + strings.Repeat("x", 110)
	_, err := run(t, "config", "--config", path, "--log-level", "loud", "--state", long, "--cni-bin-dir", "a,b")
	want := "--state: socket \"" + long + "/berth.sock\": is 122 bytes long, and 103 are possible\n" +
		path + ": keeper \"k\": must be an absolute path\n" +
		"--log-level: log.level \"loud\": must be trace, debug, info, warn or error\n" +
		path + ": log.format \"xml\": must be text or json\n" +
		"--cni-bin-dir: network.bin_dirs \"a\": not an absolute path\n--cni-bin-dir: network.bin_dirs \"b\": not an absolute path"
	if err == nil || !sameLines(err.Error(), want) {
		t.Errorf("%v\nwant\n%s", err, want)
	}
	if _, err := os.Stat(defaultConfigFile); err == nil {
		t.Skip(defaultConfigFile + " is there")
	}
	if _, err = run(t, "config", "--root", "here"); err == nil || err.Error() != "--root: root \"here\": must be an absolute path" {
		t.Errorf("without a file: %v", err)
	}
	_, err = run(t, "config", "check", path)
	if want := path + ": keeper \"k\": must be an absolute path\n" + path + ": log.format \"xml\": must be text or json"; err == nil || err.Error() != want {
		t.Errorf("config check: %v", err)
	}
}

func sameLines(a, b string) bool {
	return slices.Equal(slices.Sorted(strings.SplitSeq(a, "\n")), slices.Sorted(strings.SplitSeq(b, "\n")))
}

// TestConfigInEffect: what crictl info shows has the file's keys, all of them, and the paths that are used.
func TestConfigInEffect(t *testing.T) {
	cfg := defaultConfig()
	cfg.State = "/state"
	raw, err := json.Marshal(cfg.inEffect())
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(raw, &tree); err != nil {
		t.Fatal(err)
	}
	for _, key := range configKeys() {
		if !has(tree, strings.Split(key, ".")) {
			t.Errorf("no %s", key)
		}
	}
	keeper, _ := tree["keeper"].(string)
	if tree["socket"] != "/state/berth.sock" || filepath.Base(keeper) != "berth-keeper" || !filepath.IsAbs(keeper) {
		t.Errorf("socket %v, keeper %q", tree["socket"], keeper)
	}
	if timeout := tree["images"].(map[string]any)["pull_progress_timeout"]; timeout != "1m0s" {
		t.Errorf("a time is %v", timeout)
	}
}
