package sandbox

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-runtime/berth/oci"
)

// layOut writes a container's bundle (runtime-spec, bundle.md) and returns the mounts that the runtime is to
// see in it: the root file system, and what berth has by descriptor or shares with the host. They are in
// the mount namespace of the runtime's create alone, so that nothing of the container is in the host's.
//
//	STATE/pods/POD/bundles/CONTAINER/config.json  rootfs/  mounts/N  pid  *.log
func (f *foreign) layOut(s *start, in oci.Container) ([]oci.CommandMount, error) {
	dir := f.bundle(s.c)
	for _, d := range []string{dir, filepath.Join(dir, "rootfs"), filepath.Join(dir, "mounts"), f.root()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("make bundle: %w", err)
		}
	}
	mounts := []oci.CommandMount{{File: in.Root, Target: filepath.Join(dir, "rootfs")}}
	config := *s.spec
	config.Version = "1.0.2" // later ones only add fields, and crun before 1.9 refuses their numbers
	config.Process = f.runtimes.parts.Programs.Clamp(config.Process)
	linux := *config.Linux
	config.Linux = &linux
	config.Root = &specs.Root{Path: "rootfs", Readonly: s.spec.Root.Readonly}
	linux.Namespaces = slices.Clone(linux.Namespaces)
	for i, ns := range linux.Namespaces {
		if file := in.Namespaces[ns.Type]; file != nil {
			linux.Namespaces[i].Path = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), file.Fd())
		}
	}
	linux.Resources = anyDevice(linux.Resources)
	inner, err := f.runtimes.host.innerCgroup(s.c.record.Cgroup)
	if err != nil {
		return nil, err
	}
	if inner != linux.CgroupsPath { // whose limits are those of the group around it, which are updated
		linux.CgroupsPath = inner
		linux.Resources = onlyDevices(linux.Resources)
	}
	config.Mounts = slices.Clone(config.Mounts)
	for i := range config.Mounts {
		m := &config.Mounts[i]
		given := in.Mounts[m.Destination]
		shared := m.Type == "bind" && slices.Contains(m.Options, "rshared")
		if given == nil && !shared {
			continue
		}
		extra := oci.CommandMount{Copy: given, Path: m.Source, Target: filepath.Join(dir, "mounts", strconv.Itoa(i))}
		if given != nil {
			extra.Path = ""
		}
		if err := makeTarget(extra); err != nil {
			return nil, fmt.Errorf("mount on %s: %w", m.Destination, err)
		}
		m.Source = extra.Target
		mounts = append(mounts, extra)
	}
	text, err := json.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("write spec: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), text, 0o600); err != nil {
		return nil, fmt.Errorf("write spec: %w", err)
	}
	return mounts, nil
}

// onlyDevices are the rules for devices, without which runtimes have some of their own.
func onlyDevices(r *specs.LinuxResources) *specs.LinuxResources {
	if r == nil {
		return nil
	}
	return &specs.LinuxResources{Devices: r.Devices}
}

// anyDevice leaves numbers out that stand for all: -1 is what most runtimes take for that, and nothing at
// all is what runtime-spec's config-linux.md says ("Allowed Device list").
func anyDevice(r *specs.LinuxResources) *specs.LinuxResources {
	if r == nil {
		return nil
	}
	out := *r
	out.Devices = slices.Clone(r.Devices)
	for i := range out.Devices {
		d := &out.Devices[i]
		for _, n := range []**int64{&d.Major, &d.Minor} {
			if *n != nil && **n == -1 {
				*n = nil
			}
		}
	}
	return &out
}

// makeTarget makes what is mounted on: a directory for a directory, a file for anything else.
func makeTarget(m oci.CommandMount) error {
	if m.Path != "" {
		st, err := os.Stat(m.Path)
		if err != nil {
			return err
		}
		if !st.IsDir() {
			return os.WriteFile(m.Target, nil, 0o600)
		}
	}
	return os.Mkdir(m.Target, 0o700) // volumes that come by descriptor are directories
}
