package keeper

import (
	"errors"
	"sync"

	"github.com/berth-runtime/berth/sandbox/keeper/wire"
	"golang.org/x/sys/unix"
)

// upkeep keeps the connection to a keeper, whichever that is.
type upkeep struct {
	cfg      Config
	line     *line
	holdings *holdings
	wg       sync.WaitGroup
}

// tend serves a connection until it ends.
func (u *upkeep) tend(l *link) {
	u.wg.Go(func() { u.receive(l) })
	u.wg.Go(func() { u.watch(l) })
}

// receive is a connection's life: it hands out answers and exits, and sees to a new connection when
// this one ends.
func (u *upkeep) receive(l *link) {
	for {
		m, err := l.conn.Receive()
		if err != nil {
			break
		}
		switch m.Kind {
		case wire.KindStarted:
			l.started(m)
		case wire.KindDone:
			u.answered(l, m)
		case wire.KindExit:
			if r, err := wire.ParseRecord(m.Body, len(m.Files)); err == nil && r.Exit != nil {
				u.holdings.exited(r)
			}
			m.CloseFiles()
		default:
			m.CloseFiles()
		}
	}
	u.lost(l)
}

// answered hands an answer to whoever waits for it. What was launched is held before: its exit may be
// the next message.
func (u *upkeep) answered(l *link, m wire.Message) {
	cl := l.take(m.ID)
	if cl == nil {
		m.CloseFiles()
		return
	}
	closeAll(cl.child)
	cl.child = -1
	r, err := wire.ParseResult(m.Body)
	if err == nil {
		err = result(r)
	}
	if err == nil {
		err = m.Err
	}
	a := answer{result: r, err: err, pidfd: -1}
	switch {
	case err == nil && cl.launch != nil:
		a = u.launched(l, cl, r, &m)
	case err == nil && cl.kind == wire.KindShutdown:
		u.line.hangUp() // before the connection's end is taken for the keeper's death
	}
	m.CloseFiles()
	cl.reply <- a
}

// launched holds a process that was launched, and takes its pidfd out of the message.
func (u *upkeep) launched(l *link, cl *call, r wire.Result, m *wire.Message) answer {
	dups, err := dupAll(m.Files)
	if err == nil && len(dups) == 1 {
		u.holdings.launched(cl, r.PID, m.Files[0])
		m.Files = nil
		return answer{result: r, pidfd: dups[0]}
	}
	closeAll(dups...)
	abort := &wire.Record{Key: cl.key}
	_ = l.conn.Send(wire.Message{Kind: wire.KindAbort, Body: abort.Append(nil)}) // without a keeper there is nothing to abort
	return refusal(errors.Join(errKept, err))
}

// lost answers for all calls on a connection that ended, and gets a new one if it was in use. Whoever is
// answered finds the dead link gone: to wait for a link then is to wait for the next keeper.
func (u *upkeep) lost(l *link) {
	calls := l.end()
	again := u.line.lose(l)
	for _, cl := range calls {
		if cl.child >= 0 {
			_ = unix.PidfdSendSignal(cl.child, unix.SIGKILL, nil, 0) // ESRCH: it is gone
			closeAll(cl.child)
			cl.child = -1
		}
		cl.reply <- refusal(errLost)
	}
	if again {
		u.wg.Go(func() { u.recover(l.pid) }) // ends with a new connection, or by Close
	}
}
