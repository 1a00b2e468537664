package layer

import (
	"archive/tar"
	"fmt"
	"path"
	"strings"
	"sync/atomic"
)

// room is the memory, in bytes, that trees may take. It is safe for concurrent use.
type room struct{ left atomic.Int64 }

func newRoom(bytes int64) *room {
	r := &room{}
	r.left.Store(bytes)
	return r
}

const (
	// inodeCost is what an inode takes besides its texts: itself, its place in its directory's table and in a plan.
	inodeCost = 320
	// dirCost is what a directory takes: a table of names too, of eight places at least, and a list of them in a plan.
	dirCost = 640
	// xattrCost is what an extended attribute takes besides its texts.
	xattrCost = 32
)

// take takes an entry's part of the budget and the room.
func (x *indexer) take(hdr *tar.Header) error {
	if err := x.budget.takeEntry(hdr.Size); err != nil {
		return err
	}
	x.entries++
	x.bytes += hdr.Size
	cost := int64(inodeCost + len(path.Base(hdr.Name)) + len(hdr.Linkname))
	if hdr.Typeflag == tar.TypeDir {
		cost += dirCost - inodeCost
	}
	for key, value := range hdr.PAXRecords {
		if strings.HasPrefix(key, paxXattr) {
			cost += int64(xattrCost + len(key) + len(value))
		}
	}
	return x.hold(cost)
}

func (x *indexer) hold(cost int64) error {
	x.held += cost
	if x.room.left.Add(-cost) < 0 {
		return fmt.Errorf("%w: too many files at once", errNoIndex)
	}
	return nil
}
