package sandbox

import "sync/atomic"

// Memo keeps what readers made of a moment, for as long as the moment itself is kept: kubelet lists all pods and
// containers each second, and few of them have changed. The zero value is empty.
type Memo struct{ made atomic.Pointer[[]byte] }

// Bytes returns what make returned when it was called first. Calls at the same time may call it more than once. Nobody
// writes to what it returns.
func (m *Memo) Bytes(make func() []byte) []byte {
	if made := m.made.Load(); made != nil {
		return *made
	}
	made := make()
	m.made.Store(&made)
	return made
}
