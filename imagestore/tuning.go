package imagestore

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

const (
	// pullPercent is how much garbage there may be while layers are unpacked, of what is in use. That is then mostly the decompressors' windows and
	// blocks on their way: much, without pointers, and so neither worth doubling nor dear to look through.
	pullPercent = 30
	// pullMemory is how much memory the process may have besides what it had, before garbage is collected whatever it costs: windows, blocks and trees,
	// all of which are bounded, seldom take more.
	pullMemory = 80 << 20
)

// tuning is settings of the Go runtime, which are the process's.
var tuning struct {
	sync.Mutex
	pulls int // that unpack

	percent, runs int // before
	limit         int64
}

// tune sets the Go runtime up for a pull that unpacks, until the function that it returns is called: to keep close to the memory that it needs, and
// for so many goroutines that write files past the page cache. One that waits for the disk keeps what runs goroutines (GOMAXPROCS) for itself until the
// scheduler looks after it, up to some milliseconds: so there is one more for each, and two for what else waits in the kernel.
func tune(writers int) (end func()) {
	tuning.Lock()
	defer tuning.Unlock()
	if tuning.pulls++; tuning.pulls == 1 {
		tuning.percent = debug.SetGCPercent(pullPercent)
		if tuning.percent >= 0 && tuning.percent < pullPercent { // somebody wants it so
			debug.SetGCPercent(tuning.percent)
		}
		tuning.limit = debug.SetMemoryLimit(-1)
		debug.SetMemoryLimit(min(tuning.limit, memoryNow()+pullMemory))
		tuning.runs = runtime.GOMAXPROCS(0)
		runtime.GOMAXPROCS(tuning.runs + writers + 2)
	}
	return sync.OnceFunc(untune)
}

func untune() {
	tuning.Lock()
	defer tuning.Unlock()
	if tuning.pulls--; tuning.pulls > 0 {
		return
	}
	debug.SetGCPercent(tuning.percent)
	debug.SetMemoryLimit(tuning.limit)
	if os.Getenv("GOMAXPROCS") != "" { // somebody wants it so
		runtime.GOMAXPROCS(tuning.runs)
	} else {
		runtime.SetDefaultGOMAXPROCS() // which follows the processors that there are
	}
}

// memoryNow is what SetMemoryLimit counts.
func memoryNow() int64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return int64(samples[0].Value.Uint64() - samples[1].Value.Uint64())
}
