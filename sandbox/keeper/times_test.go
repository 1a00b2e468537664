package keeper

import (
	"testing"

	"github.com/berth-runtime/berth/oci/launch"
)

func TestRootLaunchTimes(t *testing.T) {
	needRoot(t)
	b := newBed(t)
	c := b.connect()
	drainExits(c)
	before := launch.Now()
	for key, timed := range map[string]bool{"timed": true, "not": false} {
		p, err := c.Launch(b.ctx, Launch{Key: key, Program: shell(0, "exit 0"), Timed: timed, Oneshot: true})
		if err != nil {
			t.Fatal(err)
		}
		p.PidFD.Close()
		if (p.Times != nil) != timed {
			t.Fatalf("%s: times %+v", key, p.Times)
		}
		if !timed {
			continue
		}
		last := before
		for _, at := range append([]int64{p.Times.Ordered, p.Times.Begun}, append(p.Times.Steps, p.Times.Done, launch.Now())...) {
			if at < last {
				t.Errorf("not in order: %+v", p.Times)
			}
			last = at
		}
	}
}
