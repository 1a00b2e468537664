package layer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"runtime"
	"testing"

	"github.com/berth-runtime/berth/imagestore/erofs"
)

// TestIndexMemory: trees take no more memory than what is taken of the room for them, and not much less, whatever they are made of.
func TestIndexMemory(t *testing.T) {
	attributes := map[string]string{}
	for i := range 4 {
		attributes[fmt.Sprintf("%suser.%d", paxXattr, i)] = "value"
	}
	for name, make := range map[string]func(i int) entry{
		"files in one directory": func(i int) entry { return reg(fmt.Sprintf("usr/share/file-%06d", i), "") },
		"files in many":          func(i int) entry { return reg(fmt.Sprintf("usr/share/d%05d/file-%06d", i/9, i), "") },
		"a file in each":         func(i int) entry { return reg(fmt.Sprintf("usr/share/d%06d/file-%06d", i, i), "") },
		"directories":            func(i int) entry { return folder(fmt.Sprintf("usr/share/d%06d/", i), 0o755) },
		"symlinks":               func(i int) entry { return symlink(fmt.Sprintf("usr/share/l%06d", i), "target") },
		"whiteouts":              func(i int) entry { return reg(fmt.Sprintf("usr/share/d%05d/.wh.%06d", i/9, i), "") },
		"attributes": func(i int) entry {
			return entry{tar.Header{Name: fmt.Sprintf("usr/share/file-%06d", i), Format: tar.FormatPAX, PAXRecords: attributes}, ""}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var entries []entry
			for i := range 20_000 {
				entries = append(entries, make(i))
			}
			raw := pack(t, entries...)
			before := heap()
			x := newIndexer(NewBudget(1<<40, 1<<30, 0), newRoom(1<<40), func() {})
			if err := x.index(bytes.NewReader(raw), func() int64 { return 0 }); err != nil {
				t.Fatal(err)
			}
			plan, err := erofs.Lay(x.root, 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			if took := heap() - before; took > x.held || took < x.held/3 {
				t.Errorf("%d bytes, and held %d", took, x.held)
			}
			runtime.KeepAlive(plan)
			runtime.KeepAlive(entries)
			runtime.KeepAlive(raw)
		})
	}
}

// heap is what this process has in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what had a finalizer
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
