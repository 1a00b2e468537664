package keeper

import (
	"github.com/berth-runtime/berth/sandbox/keeper/wire"
	"golang.org/x/sys/unix"
)

// receive is a connection's life: it hands out answers and exits, and sees to a new connection when
// this one ends.
func (c *Client) receive(l *link) {
	defer c.wg.Done()
	for {
		m, err := l.conn.Receive()
		if err != nil {
			break
		}
		switch m.Kind {
		case wire.KindStarted:
			c.started(l, m)
		case wire.KindDone:
			c.answered(l, m)
		case wire.KindExit:
			if r, err := wire.ParseRecord(m.Body, len(m.Files)); err == nil && r.Exit != nil {
				c.mu.Lock()
				c.exited(r.Key, r)
				c.mu.Unlock()
			}
			m.CloseFiles()
		default:
			m.CloseFiles()
		}
	}
	l.conn.Close()
	c.lost(l)
}

// started notes a launch's child, which is to be killed should the keeper die before it is through.
func (c *Client) started(l *link, m wire.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cl := l.calls[m.ID]; cl != nil && cl.child < 0 && len(m.Files) == 1 {
		cl.child = m.Files[0]
		return
	}
	m.CloseFiles()
}

func (c *Client) answered(l *link, m wire.Message) {
	r, err := wire.ParseResult(m.Body)
	if err == nil {
		err = result(r)
	}
	if err == nil {
		err = m.Err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	cl := l.calls[m.ID]
	if cl == nil {
		m.CloseFiles()
		return
	}
	delete(l.calls, m.ID)
	closeAll(cl.child)
	cl.child = -1
	a := answer{result: r, err: err, pidfd: -1}
	if cl.launch != nil && err == nil {
		a = c.launched(cl, r, m)
	} else {
		m.CloseFiles()
	}
	if cl.kind == wire.KindShutdown && err == nil {
		c.end() // before the connection's end is taken for the keeper's death
	}
	cl.reply <- a
}

// exited notes and queues the end of a process. The lock is held (or the client not shared yet).
func (c *Client) exited(key string, r *wire.Record) {
	h := c.held[key]
	if h == nil || h.process == nil || h.process.exit != nil || h.process.pid != r.PID {
		return // forgotten, or told before
	}
	p, exit := h.process, clientExit(r)
	p.exit = &exit
	close(p.ended)
	if p.oneshot {
		p.close()
		h.process = nil
		if len(h.holds) == 0 {
			delete(c.held, key)
		}
		c.past.add(exit)
	}
	c.queue = append(c.queue, exit)
	select {
	case c.wake <- struct{}{}:
	default: // it is awake already
	}
}

// deliver passes queued exits on to the channel.
func (c *Client) deliver() {
	defer c.wg.Done()
	defer close(c.exits)
	for {
		select {
		case <-c.wake:
		case <-c.done:
			return
		}
		c.mu.Lock()
		queue := c.queue
		c.queue = nil
		c.mu.Unlock()
		for _, e := range queue {
			select {
			case c.exits <- e:
			case <-c.done:
				return
			}
		}
	}
}

// lost answers for all calls on a connection that ended, and gets a new one if it was in use.
func (c *Client) lost(l *link) {
	c.mu.Lock()
	l.ended = true
	calls := l.calls
	l.calls = nil
	err := errLost
	if c.closed {
		err = ErrClosed
	}
	again := !c.closed && c.link == l
	if c.link == l {
		c.link = nil
	}
	if again {
		c.wg.Add(1)
	}
	c.mu.Unlock()
	for _, cl := range calls {
		if cl.child >= 0 {
			_ = unix.PidfdSendSignal(cl.child, unix.SIGKILL, nil, 0) // ESRCH: it is gone
			closeAll(cl.child)
			cl.child = -1
		}
		cl.reply <- refusal(err)
	}
	if again {
		go c.recover(l.pid) // ends with a new connection, or by Close
	}
}
