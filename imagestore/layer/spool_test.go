package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// TestRootPackCancelled: wherever a layer's packing ends, blocks that the disk is being given are nobody else's meanwhile, so that the layers beside
// it have what is theirs, and no descriptor stays.
func TestRootPackCancelled(t *testing.T) {
	needRoot(t)
	before := openFiles(t)
	packer, dir := NewPacker(1<<20), t.TempDir()
	cause := errors.New("enough")
	var layers sync.WaitGroup
	for i := range 4 {
		raw := pack(t, reg("big", strings.Repeat(fmt.Sprint(i), 3<<20)), reg("small", "x"))
		blob := gzipped(t, raw)
		layers.Go(func() {
			for j := range 20 {
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(time.Duration(rand.IntN(20_000))*time.Microsecond, func() { cancel(cause) })
				path := filepath.Join(dir, fmt.Sprintf("%d-%d", i, j))
				done, err := packer.Pack(ctx, path, from(bytes.NewReader(blob)), promise(raw, blob, ""), NewBudget(1<<30, 10, MaxWindow), nil)
				if err == nil {
					err = CheckPacked(t.Context(), path, done.TarSize, digest.FromBytes(raw))
				} else if errors.Is(err, cause) {
					err = nil
				}
				if err != nil {
					t.Error(err)
				}
				cancel(nil)
			}
		})
	}
	layers.Wait()
	if left := packer.room.left.Load(); left != 1<<20 {
		t.Errorf("%d bytes of room are left", left)
	}
	if after := openFiles(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// TestSpoolThroughTheCache is how it goes where writes past the page cache are refused.
func TestSpoolThroughTheCache(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	from := newConveyor(t.Context())
	s, err := newSpool(path, from, func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	s.at = 1 // where no disk has the beginning of a block
	const blocks = 2*spoolAhead + 3
	go func() { // ends with the last block
		for i := range blocks {
			b := newBlock()
			b.n = copy(b.mem[:], bytes.Repeat([]byte{byte(i)}, blockSize))
			if i == blocks-1 {
				b.n = 10
			}
			from.send(b)
		}
		from.end(nil)
	}()
	if err := s.drain(); err != nil {
		t.Fatal(err)
	}
	if s.isDirect() {
		t.Error("it goes past the cache, and nothing is aligned")
	}
	content, err := os.ReadFile(path)
	if want := 1 + (blocks-1)*blockSize + diskBlock; err != nil || len(content) != want {
		t.Fatalf("%d bytes, want %d, %v", len(content), want, err)
	}
	for i := range blocks - 1 {
		if at := 1 + i*blockSize; content[at] != byte(i) || content[at+blockSize-1] != byte(i) {
			t.Errorf("block %d: %d", i, content[at])
		}
	}
	if last := content[1+(blocks-1)*blockSize:]; last[9] != blocks-1 || !bytes.Equal(last[10:], zeros[10:]) {
		t.Errorf("the last block: %q", last[:20])
	}
}

func TestWithout(t *testing.T) {
	for n, want := range map[int]string{0: "[abc de f]", 1: "[bc de f]", 3: "[de f]", 4: "[e f]", 5: "[f]", 6: "[]"} {
		parts := [][]byte{[]byte("abc"), []byte("de"), []byte("f")}
		if got := fmt.Sprintf("%s", without(parts, n)); got != want {
			t.Errorf("without %d: %s, want %s", n, got, want)
		}
	}
}
