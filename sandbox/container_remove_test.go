package sandbox

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// operations are those that a daemon has done.
func (d *daemon) operations() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.ops)
}

// A container's end frees its cgroup, and its removal doesn't do that again, unless the end could not.
func TestRemovalFreesWhatTheEndCouldNot(t *testing.T) {
	for name, fault := range map[string]error{"freed": nil, "occupied": errFault} {
		t.Run(name, func(t *testing.T) {
			d := newWorld(t).start()
			id := d.create(d.runPod(podConfig("web")), containerConfig("c"))
			d.begin(id)
			before := len(d.operations())
			d.fail("delete cgroup", fault)
			if err := d.m.StopContainer(t.Context(), id, time.Minute); err != nil {
				t.Fatal(err)
			}
			d.eventually("cleaned up", func() error {
				if !slices.Contains(d.operations()[before:], "forget") {
					return errors.New("it is not")
				}
				return nil
			})
			d.fail("delete cgroup", nil)
			before = len(d.operations())
			if err := d.m.RemoveContainer(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			ops := d.operations()[before:]
			for _, op := range []string{"kill cgroup", "delete cgroup"} {
				if slices.Contains(ops, op) != (fault != nil) {
					t.Errorf("%s: removal did %q", op, ops)
				}
			}
			d.settled()
		})
	}
}
