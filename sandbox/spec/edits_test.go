package spec

import (
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestEdits(t *testing.T) {
	in := input()
	hooks := &specs.Hooks{Poststop: []specs.Hook{{Path: "/bin/hook"}}}
	seven := uint32(7)
	major := int64(42)
	in.Edits = &specs.Spec{
		Process: &specs.Process{Env: []string{"LANG=de", "GPU=0"}, User: specs.User{AdditionalGids: []uint32{5, 44}}},
		Mounts:  []specs.Mount{{Destination: "/etc/hosts", Source: "/gpu/hosts"}, {Destination: "/gpu", Source: "/opt/gpu"}},
		Hooks:   hooks,
		Linux: &specs.Linux{
			Devices: []specs.LinuxDevice{{Path: "/dev/x", Type: "c", Major: 42}, {Path: "/dev/gpu", Type: "c", Major: 42, UID: &seven, GID: &seven}},
			Resources: &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{
				{Allow: true, Type: "c", Major: &major, Access: "rw"}, {Allow: true, Type: "c", Major: &major, Access: ""},
			}},
		},
	}
	plain := input()
	before, err := Build(plain)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	env := envList(got.Process.Env)
	if env.get("LANG") != "de" || env.get("GPU") != "0" || len(env) != len(before.Process.Env)+1 {
		t.Errorf("environment %v", env)
	}
	if want := []uint32{5, 1234, 44}; !slices.Equal(got.Process.User.AdditionalGids, want) {
		t.Errorf("groups %v, want %v", got.Process.User.AdditionalGids, want)
	}
	sources := map[string]string{}
	for _, m := range got.Mounts {
		if _, twice := sources[m.Destination]; twice {
			t.Errorf("two mounts on %s", m.Destination)
		}
		sources[m.Destination] = m.Source
	}
	if sources["/etc/hosts"] != "/gpu/hosts" || sources["/gpu"] != "/opt/gpu" || len(got.Mounts) != len(before.Mounts)+1 {
		t.Errorf("mounts %v", sources)
	}
	devices := map[string]specs.LinuxDevice{}
	for _, d := range got.Linux.Devices {
		devices[d.Path] = d
	}
	if x := devices["/dev/x"]; x.Major != 42 || x.UID == nil || *x.UID != 1000 || *x.GID != 5 {
		t.Errorf("a device without owner: %+v", x)
	}
	if g := devices["/dev/gpu"]; *g.UID != 7 || len(got.Linux.Devices) != len(before.Linux.Devices)+1 {
		t.Errorf("a device with one: %+v", g)
	}
	if rules := got.Linux.Resources.Devices; len(rules) != len(before.Linux.Resources.Devices)+1 || *rules[len(rules)-1].Major != 42 {
		t.Errorf("rules %v", rules)
	}
	if got.Hooks != hooks {
		t.Errorf("hooks %v", got.Hooks)
	}
}
