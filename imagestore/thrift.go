package imagestore

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// thriftyPercent is how much garbage there may be while layers are unpacked, of what is in use. That is then mostly the decompressors' windows and
// blocks on their way: much, without pointers, and so neither worth doubling nor dear to look through.
const thriftyPercent = 30

// pullMemory is how much memory the process may have besides what it had, before garbage is collected whatever it costs: what windows, blocks and trees are
// bounded to, and some room.
const pullMemory = 80 << 20

// thrift is settings of the Go runtime, which are the process's.
var thrift struct {
	sync.Mutex
	users         int // pulls that unpack
	percent, runs int // before
	limit         int64
}

// beThrifty has the process keep close to the memory that it needs, until the function that it returns is called, while so many goroutines write
// files past the page cache. One that waits for the disk keeps what runs goroutines (GOMAXPROCS) for itself until the scheduler looks after it, some milliseconds
// of each of the processors: so there is one more for each, and for what else waits in the kernel.
func beThrifty(writers int) (end func()) {
	thrift.Lock()
	defer thrift.Unlock()
	if thrift.users++; thrift.users == 1 {
		thrift.percent = debug.SetGCPercent(thriftyPercent)
		if thrift.percent >= 0 && thrift.percent < thriftyPercent { // somebody wants it so
			debug.SetGCPercent(thrift.percent)
		}
		thrift.limit = debug.SetMemoryLimit(-1)
		debug.SetMemoryLimit(min(thrift.limit, memoryNow()+pullMemory))
		thrift.runs = runtime.GOMAXPROCS(0)
		runtime.GOMAXPROCS(thrift.runs + writers + 2)
	}
	return func() {
		thrift.Lock()
		defer thrift.Unlock()
		if thrift.users--; thrift.users > 0 {
			return
		}
		debug.SetGCPercent(thrift.percent)
		debug.SetMemoryLimit(thrift.limit)
		if os.Getenv("GOMAXPROCS") != "" { // somebody wants it so
			runtime.GOMAXPROCS(thrift.runs)
		} else {
			runtime.SetDefaultGOMAXPROCS() // which follows the processors that there are
		}
	}
}

// memoryNow is what SetMemoryLimit counts.
func memoryNow() int64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return int64(samples[0].Value.Uint64() - samples[1].Value.Uint64())
}
