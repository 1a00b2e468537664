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

	body    io.ReadCloser
	offset  int64
	retries int // since a byte came
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
	n, err := b.body.Read(p)
	if err == io.EOF && n == 0 && b.offset < b.desc.Size {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// open asks the present host for what comes from the offset on.
func (b *blob) open() error {
	if len(b.hosts) == 0 {
		return b.failed
	}
	body, err := b.hosts[0].Fetch(b.ctx, b.desc)
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
	if len(b.hosts) == 0 {
		return fmt.Errorf("fetch: %w", b.failed)
	}
	kind := kindOf(err)
	if kind == ErrUnavailable && b.retries < maxRetries {
		b.retries++
		return b.pause(firstPause << (b.retries - 1))
	}
	b.failed = append(b.failed, hostError{host: b.hosts[0].host, kind: kind, err: err})
	b.hosts, b.retries = b.hosts[1:], 0
	if len(b.hosts) == 0 {
		return fmt.Errorf("fetch: %w", b.failed)
	}
	return nil
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
	if b.body == nil {
		return nil
	}
	err := b.body.Close()
	b.body = nil
	return err
}
