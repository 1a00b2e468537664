package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/berth-runtime/berth/sandbox/keeper/wire"
	"golang.org/x/sys/unix"
)

// errLost is the end of a connection under a call.
var errLost = errors.New("connection to keeper lost")

// link is a connection to a keeper, with the calls that wait for an answer.
type link struct {
	conn   *wire.Conn
	pid    int
	pinged bool          // the keeper answers pings
	over   chan struct{} // closed by end

	mu    sync.Mutex
	ended bool
	last  uint32
	calls map[uint32]*call
}

// call is a request under way.
type call struct {
	kind   wire.Kind
	key    string
	reply  chan answer  // has room for one
	launch *heldProcess // of a launch: what is held once it succeeds
	holds  map[string]int
	child  int // of a launch: pidfd of its child, -1 while unknown
}

type answer struct {
	result wire.Result
	pidfd  int // of a launch that succeeded, the receiver's to close
	err    error
	open   bool // nobody answered, and somebody may still
}

func refusal(err error) answer { return answer{err: err, pidfd: -1} }

func newLink(conn *wire.Conn, keeper wire.Hello) *link {
	return &link{
		conn: conn, pid: keeper.PID, pinged: keeper.Version >= wire.Pinged,
		over: make(chan struct{}), calls: make(map[uint32]*call),
	}
}

// call sends a request and waits for its answer. errLost: the connection ended first.
func (l *link) call(ctx context.Context, cl *call, r *wire.Record, files []int) answer {
	cl.reply, cl.key = make(chan answer, 1), r.Key
	l.mu.Lock()
	if l.ended {
		l.mu.Unlock()
		return refusal(errLost)
	}
	l.last++
	id := l.last
	l.calls[id] = cl
	l.mu.Unlock()
	err := l.conn.Send(wire.Message{Kind: cl.kind, ID: id, Body: r.Append(nil), Files: files})
	if err != nil && !gone(err) { // when the keeper is gone the receiver sees it too, and answers for all
		if l.take(id) != nil {
			return refusal(err)
		}
	}
	select {
	case a := <-cl.reply:
		return a
	case <-ctx.Done():
		return answer{err: ctx.Err(), pidfd: -1, open: true}
	}
}

// started notes a launch's child, which is to be killed should the keeper die before it is through.
func (l *link) started(m wire.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cl := l.calls[m.ID]; cl != nil && cl.child < 0 && len(m.Files) == 1 {
		cl.child = m.Files[0]
		return
	}
	m.CloseFiles()
}

// take removes a call, nil when there is none: who takes it answers it.
func (l *link) take(id uint32) *call {
	l.mu.Lock()
	defer l.mu.Unlock()
	cl := l.calls[id]
	delete(l.calls, id)
	return cl
}

// withdraw removes a call that nobody waits for any more, and says whether its answer was still to come.
func (l *link) withdraw(cl *call) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, other := range l.calls {
		if other == cl {
			delete(l.calls, id)
			return true
		}
	}
	return false
}

// end closes the connection and returns the calls that wait. No call is made on it any more. It is
// called once.
func (l *link) end() map[uint32]*call {
	l.conn.Close()
	close(l.over)
	l.mu.Lock()
	defer l.mu.Unlock()
	calls := l.calls
	l.ended, l.calls = true, nil
	return calls
}

func (l *link) alive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.ended
}

// gone says whether an error means that the other end of a connection is.
func gone(err error) bool {
	return errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, os.ErrClosed)
}

// line is the present link, and the wait for the next one.
type line struct {
	done chan struct{} // closed by hangUp

	mu      sync.Mutex
	link    *link         // nil while there is none
	changed chan struct{} // closed and replaced when link or closed changes
	pid     int
	closed  bool
}

func newLine() *line {
	return &line{done: make(chan struct{}), changed: make(chan struct{})}
}

// keeper is the process id of the present keeper, or of the last one.
func (n *line) keeper() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pid
}

// use makes l the link that calls go to, unless it has ended already.
func (n *line) use(l *link) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || !l.alive() {
		return false
	}
	n.link, n.pid = l, l.pid
	close(n.changed)
	n.changed = make(chan struct{})
	return true
}

// lose says that a link has ended, and returns whether another is needed in its place.
func (n *line) lose(l *link) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.link != l {
		return false
	}
	n.link = nil
	return !n.closed
}

// hangUp ends all calls and waits, now and later. It may be called twice.
func (n *line) hangUp() *link {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.closed {
		n.closed = true
		close(n.changed)
		close(n.done)
	}
	return n.link
}

// wait returns the link, when there is one.
func (n *line) wait(ctx context.Context) (*link, error) {
	for {
		n.mu.Lock()
		l, changed, closed := n.link, n.changed, n.closed
		n.mu.Unlock()
		switch {
		case closed:
			return nil, ErrClosed
		case l != nil && l.alive(): // a dead one is about to be lost
			return l, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for keeper: %w", ctx.Err())
		}
	}
}

// call makes a call on the present link, or the next one. The link is where it was made.
func (n *line) call(ctx context.Context, cl *call, r *wire.Record, files []int) (answer, *link) {
	if err := r.Check(); err != nil {
		return refusal(err), nil
	}
	l, err := n.wait(ctx)
	if err != nil {
		return refusal(err), nil
	}
	a := l.call(ctx, cl, r, files)
	if errors.Is(a.err, errLost) {
		n.mu.Lock()
		closed := n.closed
		n.mu.Unlock()
		if closed {
			a.err = ErrClosed
		}
	}
	return a, l
}

// repeat makes a call that may be made twice, as often as a keeper dies under it.
func (n *line) repeat(ctx context.Context, kind wire.Kind, r *wire.Record, files []int) error {
	for {
		a, _ := n.call(ctx, &call{kind: kind, child: -1}, r, files)
		if !errors.Is(a.err, errLost) {
			return a.err
		}
	}
}
