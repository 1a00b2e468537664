package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/sandbox/spec"
)

func TestValidateRuntimes(t *testing.T) {
	program := filepath.Join(t.TempDir(), "crun")
	if err := os.WriteFile(program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	plain := program + ".conf"
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		runtime Runtime
		wrong   string
	}{
		{"crun", Runtime{Path: program}, ""},
		{"crun-2", Runtime{Path: program, Type: "oci", Options: []string{"--debug"}}, ""},
		{"berth", Runtime{Path: program}, "berth: the name must be"},
		{"Crun", Runtime{Path: program}, "Crun: the name must be"},
		{"", Runtime{Path: program}, ": the name must be"},
		{"crun", Runtime{Path: "crun"}, `crun.path "crun": must be an absolute path`},
		{"crun", Runtime{}, `crun.path "": must be an absolute path`},
		{"crun", Runtime{Path: "/no/such/crun"}, `crun.path "/no/such/crun": must be an executable file`},
		{"crun", Runtime{Path: plain}, "must be an executable file"},
		{"crun", Runtime{Path: program, Type: "shim"}, `crun.type "shim": must be "oci"`},
	} {
		err := ValidateRuntimes(map[string]Runtime{c.name: c.runtime})
		if c.wrong == "" && err != nil || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("%q %+v: %v, wanted %q", c.name, c.runtime, err, c.wrong)
		}
	}
}

func TestFeaturesOfARuntime(t *testing.T) {
	program := filepath.Join(t.TempDir(), "runtime")
	write := func(script string) {
		t.Helper()
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r := Runtime{Path: program, Options: []string{"--quiet"}}
	write(`[ "$*" = "--quiet features" ] && echo '{"ociVersionMin": "1.0.0", "mountOptions": ["ro", "rro"]}'`)
	if f, err := r.Features(t.Context()); err != nil || !f.RecursiveReadOnly {
		t.Errorf("features %+v, %v", f, err)
	}
	write(`echo '{"mountOptions": ["ro"]}'`)
	if f, err := r.Features(t.Context()); err != nil || f.RecursiveReadOnly {
		t.Errorf("features %+v, %v", f, err)
	}
	for _, script := range []string{"exit 1", "echo no JSON"} {
		write(script)
		if f, err := r.Features(t.Context()); err == nil || f != (Features{}) {
			t.Errorf("%s: %+v, %v", script, f, err)
		}
	}
}

// A pod whose handler is gone must not get another: its containers do not start, and go all the same.
func TestHandlerThatIsNotConfiguredAnyMore(t *testing.T) {
	d := newWorld(t).start()
	d.configure(func(c *Config) { c.Runtimes = map[string]Runtime{"other": {Path: "/bin/true"}} })
	config := podConfig("web")
	config.RuntimeHandler = "other"
	pod := d.runPod(config)
	id := d.create(pod, containerConfig("c"))
	d.configure(func(c *Config) { c.Runtimes = nil })
	err := d.m.StartContainer(t.Context(), id)
	if !errors.Is(err, ErrState) || !strings.Contains(err.Error(), `"other" of pod `+pod+" is not configured any more") {
		t.Errorf("start: %v", err)
	}
	if err := d.m.RemovePod(t.Context(), pod); err != nil {
		t.Error(err)
	}
	d.settled()
	config.Metadata.Name = "another"
	if _, err := d.m.RunPod(t.Context(), config); !errors.Is(err, spec.ErrInvalid) {
		t.Errorf("a pod with it: %v", err)
	}
}

// hanging is a container of a runtime that hangs when it is to delete it, but only at first. begun returns a process of its when it does.
func hanging(d *daemon) (f *foreign, c *container, begun func() *process) {
	d.t.Helper()
	dir := d.t.TempDir()
	pidFile, path := filepath.Join(dir, "pid"), filepath.Join(dir, "hangs")
	script := "#!/bin/sh\nif [ -e DIR/pid ]; then exit; fi\nsetsid sleep 1000 & echo $! >DIR/new; mv DIR/new DIR/pid; wait\n"
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(script, "DIR", dir)), 0o755); err != nil {
		d.t.Fatal(err)
	}
	config := podConfig("web")
	config.RuntimeHandler = "hangs"
	d.configure(func(c *Config) { c.Runtimes = map[string]Runtime{"hangs": {Path: path}} })
	c = d.m.index.exactly(d.create(d.runPod(config), containerConfig("c")))
	f, err := d.m.containers.runtimes.foreignOf(c.pod)
	if err == nil {
		err = os.MkdirAll(f.bundle(c), 0o700)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return f, c, func() *process {
		d.t.Helper()
		for range 500 {
			if p, err := openProcess(pidFile); err == nil {
				d.t.Cleanup(func() {
					_ = unix.PidfdSendSignal(int(p.PidFD.Fd()), unix.SIGKILL, nil, 0)
					p.PidFD.Close()
				})
				return newProcess(p.PID, p.PidFD)
			}
			time.Sleep(10 * time.Millisecond)
		}
		d.t.Fatal("the runtime was not called")
		return nil
	}
}

func TestHungCommandOfARuntimeIsMadeAgain(t *testing.T) {
	f, c, begun := hanging(newWorld(t).start())
	ctx, giveUp := context.WithCancel(t.Context())
	failure := make(chan error, 1)
	go func() { failure <- f.delete(ctx, c) }()
	left := begun()
	giveUp()
	if err := <-failure; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if left.alive() {
		t.Error("what the command made is alive")
	}
	if err := f.delete(t.Context(), c); err != nil {
		t.Errorf("once more: %v", err)
	}
}

// The daemon that waits for a command may end: the next one makes it again.
func TestHungCommandOfAnEarlierDaemon(t *testing.T) {
	w := newWorld(t)
	first := w.start()
	f, c, begun := hanging(first)
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = f.delete(t.Context(), c) // by a daemon that is dead then
	}()
	left := begun()
	first.kill()
	second := w.start()
	if left.alive() {
		t.Error("what the command made is alive")
	}
	<-over
	second.configure(func(cfg *Config) { cfg.Runtimes = first.m.cfg.Runtimes })
	if err := second.m.RemovePod(t.Context(), c.pod.id); err != nil {
		t.Error(err)
	}
	second.settled()
}

func TestAnyDevice(t *testing.T) {
	one := int64(1)
	in := &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Type: "c", Major: number(-1), Minor: &one}, {Type: "a", Major: number(-1), Minor: number(-1)}}}
	out := anyDevice(in)
	if d := out.Devices; d[0].Major != nil || *d[0].Minor != 1 || d[1].Major != nil || d[1].Minor != nil {
		t.Errorf("rules %+v", d)
	}
	if *in.Devices[0].Major != -1 {
		t.Error("the container's own rules have changed")
	}
	if anyDevice(nil) != nil {
		t.Error("there are rules where there were none")
	}
}

func number(n int64) *int64 { return &n }
