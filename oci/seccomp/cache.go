package seccomp

import (
	"container/list"
	"crypto/sha256"
	"encoding/binary"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// compiled remembers the filters of recent profiles. Compile is pure, so that
// this is no state that anyone could see but by the clock. A node has few
// profiles; the bound is for one where pods bring their own.
var compiled = newLRU(64)

// lru holds the last few filters used.
type lru struct {
	mu    sync.Mutex
	size  int
	order *list.List // of *entry, the latest first
	byKey map[[sha256.Size]byte]*list.Element
}

type entry struct {
	key    [sha256.Size]byte
	filter *Filter
}

func newLRU(size int) *lru {
	return &lru{size: size, order: list.New(), byKey: map[[sha256.Size]byte]*list.Element{}}
}

// get gives the filter for profile, made by build when it is not remembered.
// Errors are not remembered. Two callers may build the same at once: it is cheap.
func (c *lru) get(profile *specs.LinuxSeccomp, build func() (*Filter, error)) (*Filter, error) {
	key := profileKey(profile)
	c.mu.Lock()
	if e, ok := c.byKey[key]; ok {
		c.order.MoveToFront(e)
		c.mu.Unlock()
		return e.Value.(*entry).filter, nil
	}
	c.mu.Unlock()
	filter, err := build()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byKey[key]; ok {
		return e.Value.(*entry).filter, nil
	}
	c.byKey[key] = c.order.PushFront(&entry{key, filter})
	if c.order.Len() > c.size {
		oldest := c.order.Remove(c.order.Back()).(*entry)
		delete(c.byKey, oldest.key)
	}
	return filter, nil
}

// profileKey is a digest of all in a profile that changes its filter. Strings
// carry their length, so that no two profiles have the same text.
func profileKey(p *specs.LinuxSeccomp) [sha256.Size]byte {
	b := make([]byte, 0, 8192)
	number := func(n uint64) { b = binary.LittleEndian.AppendUint64(b, n) }
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	optional := func(n *uint) {
		if n == nil {
			b = append(b, 0)
			return
		}
		b = append(b, 1)
		number(uint64(*n))
	}
	text(string(p.DefaultAction))
	optional(p.DefaultErrnoRet)
	number(uint64(len(p.Architectures)))
	for _, a := range p.Architectures {
		text(string(a))
	}
	if p.Flags != nil {
		b = append(b, 1)
	}
	number(uint64(len(p.Flags)))
	for _, f := range p.Flags {
		text(string(f))
	}
	for i := range p.Syscalls {
		s := &p.Syscalls[i]
		number(uint64(len(s.Names)))
		for _, n := range s.Names {
			text(n)
		}
		text(string(s.Action))
		optional(s.ErrnoRet)
		number(uint64(len(s.Args)))
		for _, a := range s.Args {
			number(uint64(a.Index))
			number(a.Value)
			number(a.ValueTwo)
			text(string(a.Op))
		}
	}
	return sha256.Sum256(b)
}
