package sandbox

import "sync/atomic"

// Memo keeps what readers made of a moment, for as long as the moment itself is kept: kubelet lists all pods and
// containers each second, and few of them have changed. The zero value is empty.
type Memo struct{ made atomic.Value }

// Of returns what make returned when it was called first. Calls at the same time may call it more than once; what it
// returns is always of one type. Nobody changes that.
func (m *Memo) Of(make func() any) any {
	if made := m.made.Load(); made != nil {
		return made
	}
	made := make()
	m.made.Store(made)
	return made
}
