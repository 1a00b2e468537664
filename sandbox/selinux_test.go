package sandbox

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/berth-runtime/berth/oci/selinux"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// fakeSELinux gives levels one after the other.
type fakeSELinux struct {
	last   int
	levels map[string]int
	files  map[string]string // labels by path
}

func (f *fakeSELinux) Pod(asked selinux.Options) (selinux.Labels, error) {
	f.last++
	l := selinux.Labels{Process: fmt.Sprint("process:", f.last), File: fmt.Sprint("file:", f.last)}
	l, err := f.Container(l, asked)
	if err == nil {
		f.Keep(l)
	}
	return l, err
}

func (f *fakeSELinux) Container(pod selinux.Labels, asked selinux.Options) (selinux.Labels, error) {
	switch {
	case asked.Type == "unheard-of":
		return selinux.Labels{}, selinux.ErrRefused
	case asked != (selinux.Options{}):
		return selinux.Labels{Process: "process:" + asked.Type + asked.Level, File: "file:" + asked.Level}, nil
	}
	return pod, nil
}

func (f *fakeSELinux) Keep(l selinux.Labels)    { f.levels[l.Process]++ }
func (f *fakeSELinux) Release(l selinux.Labels) { f.levels[l.Process]-- }
func (f *fakeSELinux) SetLabel(path, label string) error {
	f.files[path] = label
	return nil
}
func (f *fakeSELinux) Relabel(path, label string) error {
	if path == "/" {
		return selinux.ErrSystemDirectory
	}
	return f.SetLabel(path, label)
}

func withSELinux(t *testing.T) (*daemon, *fakeSELinux) {
	t.Helper()
	d := newWorld(t).start()
	f := &fakeSELinux{levels: map[string]int{}, files: map[string]string{}}
	d.m.selinux = f
	return d, f
}

func TestPodLabels(t *testing.T) {
	d, f := withSELinux(t)
	one := d.runPod(podConfig("one"))
	asking := podConfig("two")
	asking.Security.SELinux = &spec.SELinux{Level: "s0:c7,c8"}
	two := d.runPod(asking)
	if want := map[string]int{"process:1": 1, "process:s0:c7,c8": 1}; !maps.Equal(f.levels, want) {
		t.Errorf("levels %v", f.levels)
	}
	for _, name := range []string{hostnameFile, resolvConfFile, hostsFile} {
		if got := f.files[filepath.Join(d.m.cfg.podFiles(one), name)]; got != "file:1" {
			t.Errorf("%s has label %q", name, got)
		}
	}
	refused := podConfig("three")
	refused.Security.SELinux = &spec.SELinux{Type: "unheard-of"}
	if _, err := d.m.RunPod(t.Context(), refused); !errors.Is(err, spec.ErrInvalid) {
		t.Errorf("what the policy has not: %v", err)
	}
	for _, id := range []string{one, two} {
		if err := errors.Join(d.m.StopPod(t.Context(), id), d.m.RemovePod(t.Context(), id)); err != nil {
			t.Fatal(err)
		}
	}
	if left := slices.Collect(maps.Values(f.levels)); slices.Max(left) > 0 {
		t.Errorf("after their removal: %v", f.levels)
	}
}

func TestContainerLabels(t *testing.T) {
	d, _ := withSELinux(t)
	config := podConfig("one")
	config.Security.Privileged = true
	id := d.runPod(config)
	for name, c := range map[string]struct {
		asked         *spec.SELinux
		privileged    bool
		process, file string
	}{
		"as-the-pod":            {nil, false, "process:1", "file:1"},
		"own-level":             {&spec.SELinux{Level: "s0:c3"}, false, "process:s0:c3", "file:s0:c3"},
		"own-type":              {&spec.SELinux{Type: "t"}, false, "process:t", "file:"},
		"privileged":            {nil, true, "", "file:1"},
		"privileged-with-level": {&spec.SELinux{Level: "s0:c3"}, true, "", "file:s0:c3"},
		"privileged-with-type":  {&spec.SELinux{Type: "spc_t"}, true, "process:spc_t", "file:"},
	} {
		config := containerConfig(name)
		config.Security.SELinux, config.Security.Privileged = c.asked, c.privileged
		built, err := d.m.containers.builder.specOf(d.m.index.exactly(d.create(id, config)))
		if err != nil || built.Process.SelinuxLabel != c.process || built.Linux.MountLabel != c.file {
			t.Errorf("%s: %q and %q, %v", name, built.Process.SelinuxLabel, built.Linux.MountLabel, err)
		}
	}
}

func TestRelabelledVolumes(t *testing.T) {
	d, f := withSELinux(t)
	id := d.runPod(podConfig("one"))
	mine, others := t.TempDir(), t.TempDir()
	config := containerConfig("c")
	config.Mounts = []spec.Mount{{ContainerPath: "/a", HostPath: mine, SELinuxRelabel: true}, {ContainerPath: "/b", HostPath: others}}
	d.create(id, config)
	if f.files[mine] != "file:1" || f.files[others] != "" {
		t.Errorf("labels %v", f.files)
	}
	config = containerConfig("host")
	config.Mounts = []spec.Mount{{ContainerPath: "/host", HostPath: "/", SELinuxRelabel: true}}
	if _, err := d.m.CreateContainer(t.Context(), id, config); !errors.Is(err, spec.ErrInvalid) {
		t.Errorf("all of the host: %v", err)
	}
}

// TestLabelsOutliveTheDaemon: the next one's containers of the pod have them too.
func TestLabelsOutliveTheDaemon(t *testing.T) {
	d, _ := withSELinux(t)
	id := d.runPod(podConfig("one"))
	d.kill()
	next := d.world.start()
	p, err := next.m.index.pod(id)
	if err != nil {
		t.Fatal(err)
	}
	if p.labels != (selinux.Labels{Process: "process:1", File: "file:1"}) {
		t.Errorf("labels %v", p.labels)
	}
}
