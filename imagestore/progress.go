package imagestore

import (
	"context"
	"io"
	"sync"

	"github.com/berth-runtime/berth/imagestore/manifest"
)

// The states of a layer in a pull.
const (
	LayerWaiting = "waiting" // for its turn, or for another pull that is at it
	LayerPulling = "pulling" // fetched and unpacked, both at once
	LayerDone    = "done"
	LayerHere    = "here" // it was here before
)

// LayerProgress is how far a pull is with one layer.
type LayerProgress struct {
	// Blob is the digest of the layer's blob, or of its tar where nobody promised the former.
	Blob  string
	State string
	// Received and Total are bytes of the blob.
	Received, Total int64
}

// progress is how far a pull is. The zero value is that of one that knows no layers yet.
type progress struct {
	mu     sync.Mutex
	layers []LayerProgress
	index  map[string]int // by chain ID
}

type progressKey struct{}

// reporting returns a context whose pull tells p how far it is.
func (p *progress) reporting(ctx context.Context) context.Context {
	return context.WithValue(ctx, progressKey{}, p)
}

// progressOf returns the one to be told, or one that nobody asks.
func progressOf(ctx context.Context) *progress {
	if p, found := ctx.Value(progressKey{}).(*progress); found {
		return p
	}
	return &progress{}
}

// begin lists the layers; those not among missing are here.
func (p *progress) begin(all, missing []manifest.Layer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.layers, p.index = make([]LayerProgress, len(all)), map[string]int{}
	for i, l := range all {
		p.index[l.ChainID.String()] = i
		blob := l.Blob.Digest
		if blob == "" {
			blob = l.DiffID
		}
		p.layers[i] = LayerProgress{Blob: blob.String(), State: LayerHere, Total: l.Blob.Size}
	}
	for _, l := range missing {
		p.layers[p.index[l.ChainID.String()]].State = LayerWaiting
	}
}

// set changes a layer's state, and adds to what was received of it.
func (p *progress) set(l manifest.Layer, state string, received int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i, known := p.index[l.ChainID.String()]; known {
		p.layers[i].State = state
		p.layers[i].Received += int64(received)
	}
}

func (p *progress) snapshot() []LayerProgress {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]LayerProgress(nil), p.layers...)
}

// counted is a blob whose bytes are told.
type counted struct {
	io.ReadCloser
	layer    manifest.Layer
	progress *progress
	dog      *watchdog
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if n > 0 {
		c.dog.touch() // Unpack tells of whole blocks, which a slow line takes long to fill
		c.progress.set(c.layer, LayerPulling, n)
	}
	return n, err
}

// PullProgress tells how far the running pull of that reference with those credentials is, layer by layer, the base first. It is nil while
// the layers aren't known, and when there is no such pull.
func (p *puller) PullProgress(ref string, auth *Auth) []LayerProgress {
	named, err := parseReference(ref)
	if err != nil {
		return nil
	}
	return p.flights.progress(flightKey(named, normal(auth)))
}
