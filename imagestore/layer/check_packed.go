package layer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/berth-runtime/berth/imagestore/erofs"
)

// CheckPacked tells whether the packed layer at path still is what it was: its tar must have the diff-ID, and all else be what that tar makes, but
// for what directories took over from layers below. The error is ErrCorrupt when it isn't.
func CheckPacked(ctx context.Context, path string, tarSize int64, diffID digest.Digest) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	r := &countingReader{r: io.TeeReader(endingWith{ctx, tarOf(f, tarSize)}, sum)}
	x := newIndexer(NewBudget(erofs.Reach, erofs.Reach, 0), newRoom(erofs.Reach), func() {})
	indexErr := x.index(r, func() int64 { return r.n })
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	if got := digest.NewDigest(digest.SHA256, sum); r.n != tarSize || got != diffID {
		return corrupt("it has %d of the %d bytes of its tar, and they make %s", r.n, tarSize, got)
	}
	plan, late, err := layPacked(x, indexErr, tarSize, diffID)
	if err != nil {
		return corrupt("its tar: %w", err)
	}
	return compare(f, plan, late, tarSize)
}

// compare holds all of a packed layer but its tar against a plan.
func compare(f *os.File, plan *erofs.Plan, late []Late, tarSize int64) error {
	want := &comparer{f: f}
	if _, err := want.Write(plan.Header()); err != nil {
		return err
	}
	want.at = erofs.HeaderSize + tarSize
	if _, err := want.Write(zeros[:plan.Base()-want.at]); err != nil {
		return err
	}
	for _, dir := range late {
		for _, part := range erofs.Amendable() {
			want.skip = append(want.skip, [2]int64{dir.place + part[0], dir.place + part[1]})
		}
	}
	_, err := plan.WriteTo(want)
	return err
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// comparer is a writer that takes nothing but what a file has already, from at on.
type comparer struct {
	f    *os.File
	at   int64
	skip [][2]int64 // what is in the file from and to there is right, whatever it is
}

func (c *comparer) Write(want []byte) (int, error) {
	got := make([]byte, len(want))
	if _, err := c.f.ReadAt(got, c.at); errors.Is(err, io.EOF) {
		return 0, corrupt("it is cut off")
	} else if err != nil {
		return 0, fmt.Errorf("read metadata: %w", err)
	}
	for _, part := range c.skip {
		from, to := max(part[0]-c.at, 0), min(part[1]-c.at, int64(len(want)))
		if from < to {
			copy(got[from:to], want[from:to])
		}
	}
	if !bytes.Equal(got, want) {
		return 0, corrupt("its metadata, from byte %d on, isn't what its tar makes", c.at)
	}
	c.at += int64(len(want))
	return len(want), nil
}
