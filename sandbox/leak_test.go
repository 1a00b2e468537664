package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// leaks lists what is in the world and belongs to no pod or container that the
// daemon's clients see in a state to have it.
func (d *daemon) leaks() []string {
	ready, running, created, all := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	pods := map[string]bool{}
	for _, p := range d.m.Pods(PodFilter{}) {
		pods[p.ID] = true
		ready[p.ID] = p.State == PodReady
	}
	for _, c := range d.m.Containers(ContainerFilter{}) {
		all[c.ID] = true
		running[c.ID], created[c.ID] = c.State == ContainerRunning, c.State == ContainerCreated
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	leak := func(what, key string, wanted bool) {
		if !wanted {
			out = append(out, what+" "+key)
		}
	}
	for id := range d.addresses {
		leak("address", id, ready[id])
	}
	for path := range d.pins {
		leak("pin", path, ready[filepath.Base(path)[len("berth-"):]])
	}
	for path := range d.cgroups {
		id := filepath.Base(path)
		leak("cgroup", path, running[id] || created[id] || ready[id])
	}
	for id := range d.snapshots {
		owner, _, _ := strings.Cut(id, "-") // of an image volume: viewKey
		leak("snapshot", id, all[owner])
	}
	for key, k := range d.kept {
		switch kind(key) {
		case "pod", "pause":
			leak("kept", key, ready[key[len(kind(key))+1:]])
		case "container":
			leak("kept", key, running[key])
		case "exec", "runtime":
			leak("kept", key, false)
		case "namespaces":
			leak("kept", key, k.oneshot) // the real keeper forgets it by itself
		}
	}
	entries, _ := os.ReadDir(filepath.Join(d.dir, "pods"))
	for _, e := range entries {
		leak("ledger", e.Name(), pods[e.Name()])
		data, _ := os.ReadFile(filepath.Join(d.dir, "pods", e.Name()))
		lines, _ := lastLines(data)
		for _, l := range lines {
			leak("record", l.word+" "+l.id, l.word == linePod || all[l.id])
		}
	}
	entries, _ = os.ReadDir(filepath.Join(d.dir, "state", "pods"))
	for _, e := range entries {
		leak("directory", e.Name(), pods[e.Name()])
	}
	return out
}

// settled waits until nothing leaks, and fails the test when that doesn't come.
func (d *daemon) settled() {
	d.t.Helper()
	d.eventually("nothing is left over", func() error {
		if l := d.leaks(); len(l) > 0 {
			return fmt.Errorf("left over: %q", l)
		}
		return nil
	})
}

func (d *daemon) eventually(what string, check func() error) {
	d.t.Helper()
	var err error
	for range 500 {
		if err = check(); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	d.t.Fatalf("%s: %v", what, err)
}
