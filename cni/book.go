package cni

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"sync"

	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/cni/plugin/nft"
)

// book knows which attachments there are: their records on disk, the ports that they claim, and whose they are.
type book struct {
	intents intents
	claims  claims

	mu       sync.Mutex
	attached map[string]bool // ids with a record; true when we attached them and they are nobody else's garbage
	valid    map[string]bool // ids that the last GC was told of, less what was released since
	closed   bool
}

// open reads what an earlier daemon left, and gives its pods the ports that it gave them.
func (b *book) open(log logrus.FieldLogger) error {
	b.intents.dropTorn()
	ids, err := b.intents.list()
	if err != nil {
		return err
	}
	b.attached = map[string]bool{}
	for _, id := range ids {
		b.attached[id] = false
		i, err := b.intents.read(id)
		if err != nil || i == nil {
			continue // torn: what it has is collected, or released by the configuration in force
		}
		if err := b.claims.take(id, i.PodNamespace+"/"+i.PodName, i.Ports); err != nil {
			log.WithError(err).WithField("pod", id).Warn("two pods have a port of the host")
		}
	}
	return nil
}

// begin records an attachment, and claims its ports.
func (b *book) begin(i *intent) error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return ErrClosed
	}
	b.attached[i.ID] = true
	b.mu.Unlock()
	err := b.claims.take(i.ID, i.PodNamespace+"/"+i.PodName, i.Ports)
	if err == nil {
		err = b.intents.write(i)
	}
	return err
}

// has says whether there is an attachment, and whether it is one that we attached and nobody has released since.
func (b *book) has(id string) (ours, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ours, known = b.attached[id]
	return ours, known
}

// disown notes that an attachment is to be released, and could not be yet.
func (b *book) disown(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.attached[id]; ok {
		b.attached[id] = false
	}
}

// forget is for what was released, record and all.
func (b *book) forget(id string) {
	b.claims.drop(id)
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.attached, id)
	delete(b.valid, id)
}

// empty says that nobody is attached.
func (b *book) empty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.attached) == 0
}

// stale are the attachments that are neither in keep nor ours. Those that are ours, or that spare says, it adds to keep.
func (b *book) stale(keep map[string]bool, spare func(id string) bool) (list []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, ours := range b.attached {
		if ours || spare(id) {
			keep[id] = true
		} else if !keep[id] {
			list = append(list, id)
		}
	}
	return list
}

// setValid keeps for the next sweep what somebody says is valid.
func (b *book) setValid(ids []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.valid = make(map[string]bool, len(ids))
	for _, id := range ids {
		b.valid[id] = true
	}
}

func (b *book) stillValid() map[string]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[string]bool{}
	maps.Copy(out, b.valid)
	return out
}

func (b *book) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// close lets nobody begin any more. It is false when it was called before.
func (b *book) close() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.closed
	b.closed = true
	return !was
}

// explain names the pod that has a port.
func (b *book) explain(err error) error {
	var taken *nft.TakenError
	if !errors.As(err, &taken) {
		return err
	}
	id := filepath.Dir(taken.Holder) // "id/interface"
	if i, _ := b.intents.read(id); i != nil {
		return fmt.Errorf("%w by pod %s/%s: %w", ErrPortTaken, i.PodNamespace, i.PodName, err)
	}
	return fmt.Errorf("%w: %w", ErrPortTaken, err)
}
