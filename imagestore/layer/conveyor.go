package layer

import (
	"context"
	"io"
	"sync"
)

const (
	blockSize = 128 << 10
	// Blocks waiting between two stages. Enough that neither waits for the other's jitter; eight layers at once with three
	// conveyors each stay below 25 MB.
	blocksAhead = 8
)

var blockPool = sync.Pool{New: func() any { return new([blockSize]byte) }}

// block is a piece of a stream. It belongs to whoever received it, until given on or freed.
type block struct {
	mem *[blockSize]byte
	n   int
}

func newBlock() block         { return block{mem: blockPool.Get().(*[blockSize]byte)} }
func (b block) bytes() []byte { return b.mem[:b.n] }
func (b block) free()         { blockPool.Put(b.mem) }

// conveyor carries blocks from one goroutine to another, and after them the error that ended the stream.
type conveyor struct {
	ctx    context.Context
	blocks chan block
	err    error // written before blocks is closed, read after

	// The reader's:
	current block
	unread  []byte
	ended   error // what next returned in place of a block
}

func newConveyor(ctx context.Context) *conveyor {
	return &conveyor{ctx: ctx, blocks: make(chan block, blocksAhead)}
}

// send takes b over. It fails only when the context has ended.
func (c *conveyor) send(b block) error {
	select {
	case c.blocks <- b:
		return nil
	case <-c.ctx.Done():
		b.free()
		return context.Cause(c.ctx)
	}
}

// end is the sender's last call. A nil error is the stream's regular end.
func (c *conveyor) end(err error) {
	if err == nil {
		err = io.EOF
	}
	c.err = err
	close(c.blocks)
}

// next gives the next block to the caller, or the error after the last one.
func (c *conveyor) next() (block, error) {
	select {
	case b, open := <-c.blocks:
		if !open {
			c.ended = c.err
			return block{}, c.err
		}
		return b, nil
	case <-c.ctx.Done():
		c.ended = context.Cause(c.ctx)
		return block{}, c.ended
	}
}

// Read makes a stream of the blocks.
func (c *conveyor) Read(p []byte) (int, error) {
	for len(c.unread) == 0 {
		if c.current.mem != nil {
			c.current.free()
			c.current = block{}
		}
		b, err := c.next()
		if err != nil {
			return 0, err
		}
		c.current, c.unread = b, b.bytes()
	}
	n := copy(p, c.unread)
	c.unread = c.unread[n:]
	return n, nil
}

// fill reads r into blocks and hands each to give, until r ends. It returns nil at io.EOF.
func fill(r io.Reader, give func(block) error) error {
	for {
		b := newBlock()
		var err error
		for b.n < blockSize && err == nil {
			var n int
			n, err = r.Read(b.mem[b.n:])
			b.n += n
		}
		if b.n == 0 {
			b.free()
		} else if sendErr := give(b); sendErr != nil {
			return sendErr
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
