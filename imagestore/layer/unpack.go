package layer

import (
	"context"
	"crypto/sha256"
	_ "crypto/sha512" // blobs may be named by it (OCI image specification, descriptor.md)
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/berth-runtime/berth/imagestore/fault"
)

var (
	// ErrCorrupt: the blob isn't what was promised, or not a layer at all.
	ErrCorrupt = errors.New("layer is corrupt")
	// ErrTooLarge: the budget is used up.
	ErrTooLarge = errors.New("too large")
)

// Blob is what a manifest promises of a layer.
type Blob struct {
	MediaType string
	// Digest of the bytes as they come. Empty: not promised (docker archives), not checked.
	Digest digest.Digest
	// Size in bytes, as they come. Negative: not promised.
	Size int64
	// DiffID is the digest of the tar. Always checked.
	DiffID digest.Digest
}

// Budget is what may still be unpacked. Layers of one image share one; it is safe for concurrent use.
type Budget struct {
	bytes, entries, stream atomic.Int64
	window                 int64 // of each stream
}

// NewBudget allows files of so many bytes, in so many entries, and streams with zstd windows of so many bytes.
func NewBudget(bytes, entries, window int64) *Budget {
	b := &Budget{window: window}
	b.bytes.Store(bytes)
	b.entries.Store(entries)
	// The tar itself may be larger than the files by its headers: 1.5 KiB an entry is what pax needs.
	b.stream.Store(bytes + min(entries, 1<<40)*1536 + 1<<20)
	return b
}

func (b *Budget) takeEntry(size int64) error {
	if b.entries.Add(-1) < 0 {
		return fmt.Errorf("number of files: %w", ErrTooLarge)
	}
	if size > 0 && b.bytes.Add(-size) < 0 {
		return fmt.Errorf("size of files: %w", ErrTooLarge)
	}
	return nil
}

// giveBack undoes what was taken for a layer that is read anew.
func (b *Budget) giveBack(entries, bytes, stream int64) {
	b.entries.Add(entries)
	b.bytes.Add(bytes)
	b.stream.Add(stream)
}

func (b *Budget) takeStream(n int) error {
	if b.stream.Add(-int64(n)) < 0 {
		return fmt.Errorf("size of the tar: %w", ErrTooLarge)
	}
	return nil
}

// Opener opens a blob for reading.
type Opener func(context.Context) (io.ReadCloser, error)

// Unpacked is what Unpack made.
type Unpacked struct {
	// Bytes and Inodes are what it takes on the disk, in whole blocks of 4 KiB.
	Bytes, Inodes int64
	// Implied are directories that the tar had no entry for, for Adopt. "" is the layer's root.
	Implied []string
	// OpaqueRoot: nothing of the layers below is to be seen.
	OpaqueRoot bool
	// TarSize is how long the tar is.
	TarSize int64
	// Origin: what was written to origin is all that Assemble needs.
	Origin bool

	// Packed: it is a file of Pack's, and Late are its directories that the tar had no entry for, for AdoptPacked.
	Packed bool
	Late   []Late
}

// Unpack reads a layer into dir, an empty directory that nobody else touches. open is called once; what it opens is read to its end and
// closed, and reading it must end when the context given to open does: when ctx ends, and then Unpack returns its cause, or when there is no
// use in the rest. origin, which may be nil, gets what Assemble needs to make the tar again. progress, which may be nil, is called, from
// several goroutines, for whatever moves. Unpack needs CAP_CHOWN, CAP_FOWNER, CAP_MKNOD, CAP_SETFCAP and CAP_SYS_ADMIN (trusted.* attributes).
// After an error it may be called again with another empty directory.
func Unpack(ctx context.Context, dir string, origin io.Writer, open Opener, want Blob, budget *Budget, progress func()) (Unpacked, error) {
	if progress == nil {
		progress = func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p, err := startPipeline(ctx, open, want, budget, progress)
	if err != nil {
		return Unpacked{}, err
	}
	defer p.stages.Wait()
	defer cancel()

	a, err := newApplier(dir, budget, progress)
	if err != nil {
		return Unpacked{}, err
	}
	defer a.close()
	if a.origin, err = newOriginWriter(p.verified, origin); err != nil {
		return Unpacked{}, err
	}
	if err := a.apply(ctx, a.origin); err != nil {
		return Unpacked{}, err
	}
	// What follows the tar's end (padding, an estargz table of contents) counts for the digests.
	if _, err := io.Copy(io.Discard, a.origin); err != nil {
		return Unpacked{}, err
	}
	done, err := a.finish()
	if err != nil {
		return Unpacked{}, err
	}
	done.TarSize = p.tarSize.Load()
	done.Origin, err = a.origin.close()
	return done, err
}

func checkable(want Blob) error {
	if err := want.DiffID.Validate(); err != nil || want.DiffID.Algorithm() != digest.SHA256 {
		return corrupt("diff-ID %q: not a sha256 digest", want.DiffID)
	}
	if want.Digest == "" {
		return nil
	}
	if err := want.Digest.Validate(); err != nil {
		return corrupt("digest %q: %w", want.Digest, err)
	}
	return nil
}

// pipeline is the stages before the files.
type pipeline struct {
	want     Blob
	budget   *Budget
	progress func()

	received, inflated, verified *conveyor
	tarSize                      atomic.Int64
	stages                       sync.WaitGroup
}

// startPipeline starts the stages, which end with the blob or with ctx. Whoever has ended ctx waits for them.
func startPipeline(ctx context.Context, open Opener, want Blob, budget *Budget, progress func()) (*pipeline, error) {
	if err := checkable(want); err != nil {
		return nil, err
	}
	p := &pipeline{want: want, budget: budget, progress: progress,
		received: newConveyor(ctx), inflated: newConveyor(ctx), verified: newConveyor(ctx)}
	p.stages.Go(func() { p.received.end(fault.Guard(func() error { return p.receive(ctx, open) })) })
	p.stages.Go(func() { p.inflated.end(fault.Guard(func() error { return p.decompress(ctx) })) })
	p.stages.Go(func() { p.verified.end(fault.Guard(p.verify)) })
	return p, nil
}

// receive checks size and digest as bytes pass. A stream that isn't what was promised ends with an error in place of io.EOF.
func (p *pipeline) receive(ctx context.Context, open Opener) error {
	r, err := open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	var sum hash.Hash
	if p.want.Digest != "" {
		sum = p.want.Digest.Algorithm().Hash()
	}
	var size int64
	err = fill(r, func(b block) error {
		p.progress()
		size += int64(b.n)
		if p.want.Size >= 0 && size > p.want.Size {
			b.free()
			return corrupt("receive: more than the %d bytes promised", p.want.Size)
		}
		if sum != nil {
			sum.Write(b.bytes())
		}
		return p.received.send(b)
	})
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return corrupt("receive: ended after %d of %d bytes: %w", size, p.want.Size, err)
	case err != nil:
		return err
	case p.want.Size >= 0 && size != p.want.Size:
		return corrupt("receive: ended after %d of %d bytes", size, p.want.Size)
	case sum != nil:
		if got := digest.NewDigest(p.want.Digest.Algorithm(), sum); got != p.want.Digest {
			return corrupt("check digest: got %s", got)
		}
	}
	return nil
}

func (p *pipeline) decompress(ctx context.Context) error {
	z, err := Decompress(ctx, p.received, p.want.MediaType, p.budget.window, p.progress)
	if err != nil {
		return err
	}
	defer z.Close()
	err = fill(z, func(b block) error {
		if err := p.budget.takeStream(b.n); err != nil {
			b.free()
			return err
		}
		return p.inflated.send(b)
	})
	if err == nil {
		// A decompressor may stop at its own end mark. The rest of the blob must be read for its digest, and may be nothing.
		err = drained(p.received)
	}
	return attribute(err, p.received)
}

// drained reads c to its end.
func drained(c *conveyor) error {
	if n, err := io.Copy(io.Discard, c); err != nil {
		return err
	} else if n > 0 {
		return corrupt("decompress: %d bytes after the end", n)
	}
	return nil
}

// attribute tells the fault of a decompressor's input from one that it found itself.
func attribute(err error, input *conveyor) error {
	switch {
	case err == nil, errors.Is(err, ErrCorrupt), errors.Is(err, ErrTooLarge), input.ctx.Err() != nil:
		return err
	case input.ended != nil && input.ended != io.EOF:
		return input.ended
	}
	return corrupt("decompress: %w", err)
}

func (p *pipeline) verify() error {
	sum := sha256.New()
	for {
		b, err := p.inflated.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		sum.Write(b.bytes())
		p.tarSize.Add(int64(b.n))
		if err := p.verified.send(b); err != nil {
			return err
		}
	}
	if got := digest.NewDigest(digest.SHA256, sum); got != p.want.DiffID {
		return corrupt("check diff-ID: got %s, the image's configuration says %s", got, p.want.DiffID)
	}
	return nil
}
