package imagestore

import (
	"runtime"
	"runtime/debug"
	"testing"
)

// settings are what tune changes.
type settings struct {
	percent, runs int
	limit         int64
}

func settingsNow() settings {
	percent := debug.SetGCPercent(100)
	debug.SetGCPercent(percent)
	return settings{percent, runtime.GOMAXPROCS(0), debug.SetMemoryLimit(-1)}
}

// TestTune: what the process is set to holds while any pull unpacks, and not longer.
func TestTune(t *testing.T) {
	for _, env := range []string{"", "3"} {
		t.Setenv("GOMAXPROCS", env)
		before := settingsNow()
		first, second := tune(4), tune(4)
		first()
		first() // is once
		during := settingsNow()
		if during.percent != pullPercent || during.runs != before.runs+6 || during.limit >= before.limit {
			t.Errorf("before %+v, during %+v", before, during)
		}
		second()
		if after := settingsNow(); after != before {
			t.Errorf("before %+v, after %+v", before, after)
		}
	}
	percent := debug.SetGCPercent(10)
	defer debug.SetGCPercent(percent)
	end := tune(1)
	defer end()
	if got := settingsNow().percent; got != 10 {
		t.Errorf("somebody wanted 10, and has %d", got)
	}
}
