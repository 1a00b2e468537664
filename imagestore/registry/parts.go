package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

const (
	// partSize is what one request asks for: long against the way there and back, and short enough that several fit into memory.
	partSize = 2 << 20
	// spareParts are those that may be in flight at once besides one for each blob, over all pulls.
	spareParts = 8
)

// parts reads a blob by several requests at a time, in order. The bytes that came early wait in memory: at most a part for each blob, and
// spareParts for all. A host that answers with something else than the part asked for is read from as if there were no parts.
//
//	blob   |-------- read ---------|##### part 0 ####|### part 1 ..|  part 2     |       not asked for yet      |
//	                               ^ the reader, which gets what has come of part 0
type parts struct {
	whole *blob // its offset is the reader's; reads the rest where parts can't be
	repo  *Repository

	ctx    context.Context
	cancel context.CancelFunc
	flying []*part // in order; the first is read
	next   int64   // where the part after those begins
	proven bool    // a host has sent a part
	buffer []byte  // what the part that was read last had, until the next takes it

	mu   sync.Mutex
	etag string // of the first part
}

func newParts(whole *blob, repo *Repository) *parts {
	p := &parts{whole: whole, repo: repo}
	p.ctx, p.cancel = context.WithCancel(whole.ctx)
	return p
}

// part is a request in flight, or what it brought.
type part struct {
	blob  *blob
	spare bool // holds one of the client's

	mu      sync.Mutex
	content []byte        // what has come
	err     error         // io.EOF: all is there
	changed chan struct{} // holds one when something has come that was not looked at
	over    chan struct{} // closed when the request has ended
	read    int           // the reader's
}

// Read gives what comes next.
func (p *parts) Read(to []byte) (int, error) {
	if p.repo.whole.Load() && len(p.flying) == 0 {
		return p.whole.Read(to)
	}
	for {
		p.launch()
		if len(p.flying) == 0 {
			return 0, io.EOF
		}
		head := p.flying[0]
		n, err := head.take(p.ctx, to)
		p.whole.offset += int64(n)
		switch {
		case n > 0:
			p.proven = true
			return n, nil
		case errors.Is(err, errNoRanges):
			p.repo.whole.Store(true)
			p.land()
			return p.whole.Read(to)
		case err != io.EOF:
			return 0, err
		}
		p.whole.hosts = head.blob.hosts // those that it gave up need not be asked for the next
		p.flying = p.flying[1:]
		p.done(head)
	}
}

// launch starts requests as long as there is room for what they bring. The first goes alone, to see whether the host does as it is asked.
func (p *parts) launch() {
	for p.next < p.whole.desc.Size && (len(p.flying) == 0 || p.proven && len(p.flying) < p.repo.client.Ranges) {
		spare := slices.ContainsFunc(p.flying, func(f *part) bool { return !f.spare })
		if spare && !p.spareRoom() {
			break
		}
		end := min(p.next+partSize, p.whole.desc.Size)
		f := &part{spare: spare, content: p.memory(), changed: make(chan struct{}, 1), over: make(chan struct{}), blob: &blob{
			ctx: p.ctx, desc: p.whole.desc, hosts: p.whole.hosts, stall: p.whole.stall, minRate: p.whole.minRate, offset: p.next,
			span: &span{digest: p.whole.desc.Digest.String(), end: end, size: p.whole.desc.Size, seen: p.seen},
		}}
		p.flying, p.next = append(p.flying, f), end
		go f.fetch() // ends with the blob, or with p.ctx; done waits for it
	}
	p.buffer = nil // its place may be another blob's now, which has memory of its own
}

// spareRoom takes one of the client's, if there is any.
func (p *parts) spareRoom() bool {
	select {
	case p.repo.client.spare <- struct{}{}:
		return true
	default:
		return false
	}
}

// memory is that of the part that was read last, or new.
func (p *parts) memory() []byte {
	last := p.buffer
	if last == nil {
		return make([]byte, 0, partSize)
	}
	p.buffer = nil
	return last[:0]
}

// done waits for a part's request to end, and takes back what it had.
func (p *parts) done(f *part) {
	<-f.over
	if f.spare {
		<-p.repo.client.spare
	}
	p.buffer = f.content
}

// seen compares the hosts' tags for the blob: a part of another version is no part of this one.
func (p *parts) seen(etag string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.etag == "" {
		p.etag = etag
	}
	if etag != "" && etag != p.etag {
		return fmt.Errorf("%w: its tag was %s and is %s", errNoRanges, p.etag, etag)
	}
	return nil
}

// land ends all requests.
func (p *parts) land() {
	p.cancel()
	for _, f := range p.flying {
		p.done(f)
	}
	p.flying, p.buffer = nil, nil
}

// Close ends the transfer. It may be called twice.
func (p *parts) Close() error {
	p.land()
	return p.whole.Close()
}

// fetch reads the part into memory.
func (f *part) fetch() {
	defer close(f.over)
	defer f.blob.Close()
	for f.err == nil { // which, and content, only this goroutine changes
		room := f.content[len(f.content):cap(f.content)]
		n, err := f.blob.Read(room[:min(len(room), 64<<10)])
		f.mu.Lock()
		f.content, f.err = f.content[:len(f.content)+n], err
		f.mu.Unlock()
		select {
		case f.changed <- struct{}{}:
		default: // nobody has seen the last change yet
		}
	}
}

// take gives what has come and wasn't taken, and waits for it. It returns io.EOF after the last byte.
func (f *part) take(ctx context.Context, to []byte) (int, error) {
	for {
		f.mu.Lock()
		n, err := copy(to, f.content[f.read:]), f.err
		f.mu.Unlock()
		f.read += n
		if n > 0 || err != nil {
			return n, err
		}
		select {
		case <-f.changed:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}
