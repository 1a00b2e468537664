package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// How often a host is asked again when it brings nothing new, and the first pause before that.
	maxRetries = 3
	firstPause = 100 * time.Millisecond
	// How many slow connections to the last host are replaced: another may take another way.
	maxSlow = 2
)

type fetcher struct {
	remotes.Fetcher
	host string
}

// blob reads a descriptor's content from the first of its hosts that has it, and goes on where a connection broke.
type blob struct {
	ctx   context.Context // of this one transfer, as of an http.Request
	desc  ocispec.Descriptor
	hosts []fetcher // those not yet given up

	stall   time.Duration
	minRate int64

	span *span // nil: the whole blob is wanted

	body    io.ReadCloser
	pace    *pace
	done    context.Context // of the present connection
	cancel  context.CancelCauseFunc
	offset  int64
	retries int // since a byte came
	slow    int // connections to the present host that were too slow
	failed  hostErrors
}

func (b *blob) Read(p []byte) (int, error) {
	for {
		n, err := b.read(p)
		if n > 0 {
			b.offset += int64(n)
			b.retries = 0
			return n, nil // an error comes again with the next call
		}
		if err == nil || err == io.EOF {
			return 0, err
		}
		if err := b.recover(err); err != nil {
			return 0, err
		}
	}
}

func (b *blob) read(p []byte) (int, error) {
	if b.body == nil {
		if err := b.open(); err != nil {
			return 0, err
		}
	}
	end := b.end()
	if b.offset >= end && b.span != nil {
		return 0, io.EOF
	}
	if b.span != nil {
		p = p[:min(int64(len(p)), end-b.offset)]
	}
	b.pace.waits()
	n, err := b.body.Read(p)
	b.pace.got(n)
	if err == io.EOF && n == 0 && b.offset < end {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF && b.ctx.Err() == nil && b.done.Err() != nil {
		err = context.Cause(b.done) // too slow
	}
	return n, err
}

// end is one more than the number of the last byte that is wanted.
func (b *blob) end() int64 {
	if b.span != nil {
		return b.span.end
	}
	return b.desc.Size
}

// open asks the present host for what comes from the offset on.
func (b *blob) open() error {
	if len(b.hosts) == 0 {
		return b.failed
	}
	var ctx context.Context
	ctx, b.cancel = context.WithCancelCause(b.ctx)
	b.done = ctx
	if len(b.hosts) == 1 {
		ctx = lastHost(ctx)
	}
	if b.span != nil {
		ctx = context.WithValue(ctx, spanKey{}, b.span)
	}
	b.pace = keepPace(b.cancel, b.stall/2, b.minRate)
	body, err := b.hosts[0].Fetch(context.WithValue(ctx, paceKey{}, b.pace), b.desc)
	if err != nil {
		return err
	}
	if b.offset > 0 {
		seeker, can := body.(io.Seeker)
		if !can {
			body.Close()
			return errors.New("can't go on in the middle")
		}
		if _, err := seeker.Seek(b.offset, io.SeekStart); err != nil {
			body.Close()
			return err
		}
	}
	b.body = body
	return nil
}

// recover decides what to do about an error: nil to read again, from this host or the next.
func (b *blob) recover(err error) error {
	b.Close()
	if b.ctx.Err() != nil {
		return context.Cause(b.ctx)
	}
	if errdefs.IsFailedPrecondition(err) {
		return fmt.Errorf("fetch: %w: %w", ErrCorrupt, err)
	}
	if errors.Is(err, errNoRanges) {
		return err
	}
	if len(b.hosts) == 0 {
		return fmt.Errorf("fetch: %w", b.failed)
	}
	failed := newHostError(b.hosts[0].host, err)
	if b.again(failed) {
		b.retries++
		return b.pause(firstPause << (b.retries - 1))
	}
	b.failed = append(b.failed, failed)
	b.hosts, b.retries, b.slow = b.hosts[1:], 0, 0
	if len(b.hosts) == 0 {
		return fmt.Errorf("fetch: %w", b.failed)
	}
	return nil
}

// again tells whether the same host is to be asked once more. One that is slow or busy isn't while there is another.
func (b *blob) again(failed hostError) bool {
	switch {
	case failed.kind != ErrUnavailable || b.retries >= maxRetries || errors.Is(failed.err, errBusy):
		return false
	case errors.Is(failed.err, errSlow):
		b.slow++
		return b.slow <= maxSlow && len(b.hosts) == 1
	}
	return true
}

func (b *blob) pause(d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-b.ctx.Done():
		return context.Cause(b.ctx)
	}
}

// Close ends the transfer. It may be called twice.
func (b *blob) Close() error {
	if b.pace != nil {
		b.pace.stop()
		b.cancel(nil)
	}
	if b.body == nil {
		return nil
	}
	err := b.body.Close()
	b.body = nil
	return err
}
