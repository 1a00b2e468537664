package launch

import "bytes"

// Arrivals are bytes behind the sheets, one for each launch that is under way: the end of the status pipe says only that a child
// closed it, by an execve or by its death. A child says so in memory, as its seccomp filter may let it write nothing.
const (
	arrivalFree = iota // so that fresh memory is
	arrivalAwaited
	arrivalMade
)

// arrivalCount is for launches that are under way; of those beyond one doesn't know.
const arrivalCount = 4096

// arrival is the place of one launch's byte; the zero value is none.
type arrival struct {
	from *sheets
	at   *byte
}

// await takes a byte for a launch; it needs make.
func (s *sheets) await() arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.arrivals()
	i := bytes.IndexByte(all, arrivalFree)
	if i < 0 {
		return arrival{}
	}
	all[i] = arrivalAwaited
	return arrival{s, &all[i]}
}

// arrivals are none before make and after close.
func (s *sheets) arrivals() []byte { return s.mem[min(sheetCount*sheetBytes, len(s.mem)):] }

// end gives the byte back, and says whether the child died on its way, as far as is known. The child must be past its execve,
// or dead.
func (a arrival) end() (died bool) {
	if a.at == nil {
		return false
	}
	a.from.mu.Lock()
	defer a.from.mu.Unlock()
	if a.from.mem == nil {
		return false
	}
	died = *a.at == arrivalAwaited
	*a.at = arrivalFree
	return died
}
