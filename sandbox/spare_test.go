package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// sparing is a daemon that makes namespaces ahead.
func sparing(t *testing.T) *daemon {
	w := newWorld(t)
	w.spare = true
	return w.start()
}

// ready waits until spare namespaces are there.
func (d *daemon) ready() {
	d.t.Helper()
	d.eventually("spare namespaces", func() error {
		d.m.spares.mu.Lock()
		defer d.m.spares.mu.Unlock()
		if d.m.spares.made == nil {
			return errors.New("none are there")
		}
		return nil
	})
}

func (d *daemon) hostname() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.hostnames, " ")
}

// TestSpareNamespaces: the second pod gets those that were made after the first, and is told apart by its hostname alone.
func TestSpareNamespaces(t *testing.T) {
	d := sparing(t)
	first := d.runPod(podConfig("first"))
	if text, err := d.m.ExplainPod(first); err != nil || strings.Contains(text, "before it was asked for") {
		t.Errorf("the first pod: %q, %v", text, err)
	}
	d.ready()
	config := podConfig("second")
	config.Hostname = "second-host"
	second := d.runPod(config)
	if d.hostname() != "second-host" {
		t.Errorf("hostnames %q were set", d.hostname())
	}
	if text, err := d.m.ExplainPod(second); err != nil || !strings.Contains(text, "pod: "+second) || !strings.Contains(text, "before it was asked for") {
		t.Errorf("the second pod: %q, %v", text, err)
	}
	if got := d.index(second).namespaces; len(got) != 3 {
		t.Errorf("it has %d namespaces", len(got))
	}
	d.ready() // for the third
}

// TestSpareNamespacesThatDontFit: what a pod wants of its own is made for it.
func TestSpareNamespacesThatDontFit(t *testing.T) {
	d := sparing(t)
	d.runPod(podConfig("first"))
	d.ready()
	for name, change := range map[string]func(*spec.Pod){
		"sysctls":     func(p *spec.Pod) { p.Sysctls = map[string]string{"net.ipv4.ip_forward": "1"} },
		"no hostname": func(p *spec.Pod) { p.Hostname = "" },
		"node's network": func(p *spec.Pod) {
			p.Hostname, p.Security.Namespaces.Network = "", spec.NamespaceNode
		},
	} {
		config := podConfig(strings.ReplaceAll(name, " ", "-"))
		change(config)
		d.runPod(config)
		if d.hostname() != "" {
			t.Errorf("%s: got spare namespaces", name)
		}
	}
	config := podConfig("node-ipc")
	config.Security.Namespaces.IPC = spec.NamespaceNode
	if got := d.index(d.runPod(config)).namespaces; len(got) != 2 || got[specs.IPCNamespace] != nil {
		t.Errorf("a pod in the node's IPC namespace has %v", got)
	}
}

// TestSpareNamespacesThatFail: the pod fails whole, and the next one doesn't.
func TestSpareNamespacesThatFail(t *testing.T) {
	d := sparing(t)
	d.runPod(podConfig("first"))
	d.ready()
	d.fail("set hostname", errors.New("no such luck"))
	if _, err := d.m.RunPod(t.Context(), podConfig("second")); err == nil || !strings.Contains(err.Error(), "make namespaces: no such luck") {
		t.Fatalf("got %v", err)
	}
	d.runPod(podConfig("third"))
}

// TestSpareNamespacesNobodyTakes are closed, when they are old or when the manager ends.
func TestSpareNamespacesNobodyTakes(t *testing.T) {
	for _, end := range []string{"age", "close"} {
		synctest.Test(t, func(t *testing.T) {
			f, err := os.Open(os.DevNull)
			if err != nil {
				t.Fatal(err)
			}
			var s spares
			if !s.begin() || s.begin() {
				t.Error("two may make a set")
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go s.offer(ctx, &madeNamespaces{files: map[specs.LinuxNamespaceType]*os.File{specs.NetworkNamespace: f}})
			time.Sleep(spareAge - time.Nanosecond)
			if _, err := f.Stat(); err != nil || s.begin() {
				t.Errorf("%s: gone early: %v", end, err)
			}
			if end == "close" {
				cancel()
			} else {
				time.Sleep(time.Nanosecond)
			}
			synctest.Wait()
			if _, err := f.Stat(); !errors.Is(err, os.ErrClosed) || s.take() != nil || !s.begin() {
				t.Errorf("%s: still there: %v", end, err)
			}
		})
	}
}

// TestSpareNamespacesManyPods: pods that are set up at once each get namespaces, spare or not, and no two the same.
func TestSpareNamespacesManyPods(t *testing.T) {
	d := sparing(t)
	ids := make(chan string)
	for i := range 20 {
		go func() {
			id, err := d.m.RunPod(t.Context(), podConfig(fmt.Sprint("pod-", i)))
			if err != nil {
				t.Error(err)
			}
			ids <- id
		}()
	}
	var files []*os.File
	for range 20 {
		p := d.index(<-ids)
		if p == nil {
			continue
		}
		for kind, f := range p.namespaces {
			if slices.Contains(files, f) {
				t.Errorf("the %s namespace of %s is another pod's", kind, p.id)
			}
			files = append(files, f)
		}
	}
	if len(files) != 60 {
		t.Errorf("%d namespaces", len(files))
	}
}

// TestSpareNamespacesLeaveTheKeeper: what makes them has left the keeper when the manager is closed, or the keeper would not end with
// its daemon.
func TestSpareNamespacesLeaveTheKeeper(t *testing.T) {
	for i := range 20 {
		d := sparing(t)
		pod := d.runPod(podConfig("first"))
		time.Sleep(time.Duration(i) * time.Millisecond) // before they are made, while, and after
		if err := errors.Join(d.m.StopPod(t.Context(), pod), d.m.RemovePod(t.Context(), pod), d.m.Close()); err != nil {
			t.Fatal(err)
		}
		d.mu.Lock()
		for key := range d.kept {
			if strings.HasPrefix(key, namespacesKey) && key != namespacesKey+pod {
				t.Errorf("the keeper has %s", key)
			}
		}
		d.mu.Unlock()
	}
}
