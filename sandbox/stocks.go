package sandbox

import (
	"context"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// lullTime is how long nothing is set up before stocks are filled: who sets up pods one after the other, container by
// container, doesn't wait for the next one's.
const lullTime = 8 * time.Millisecond

// restTime is how long nothing is set up before the daemon tidies up.
const restTime = time.Second

// stocks have what a pod to come will need made ahead, when nobody waits for anything: namespaces, and the directories of a
// snapshot.
type stocks struct {
	*base
	namespaces *namespaces
	programs   *keptPrograms

	mu       sync.Mutex
	lull     *time.Timer // fires in the next lull; nil: there was nothing yet
	rest     *time.Timer // with lull
	fitSpare bool        // the last pod could have had spare namespaces
}

// ran says that a pod was set up.
func (s *stocks) ran(config *spec.Pod) {
	s.mu.Lock()
	s.fitSpare = fitsSpare(config)
	s.mu.Unlock()
	s.busy()
}

// busy says that something was set up just now.
func (s *stocks) busy() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lull == nil {
		s.lull, s.rest = time.AfterFunc(lullTime, s.fill), time.AfterFunc(restTime, s.tidy)
		return
	}
	s.lull.Reset(lullTime)
	s.rest.Reset(restTime)
}

// tidy puts away what the set-ups left.
func (s *stocks) tidy() {
	s.tasks.goes(func(context.Context) {
		s.programs.writePrograms()
		if s.parts.Rested != nil {
			s.parts.Rested()
		}
	})
}

func (s *stocks) fill() {
	s.mu.Lock()
	fits := s.fitSpare
	s.mu.Unlock()
	s.tasks.goes(func(context.Context) {
		if err := s.parts.Images.ExpectSnapshot(); err != nil {
			s.log.WithFields(logrus.Fields{"op": "make a snapshot's directories", "error": err}).Debug("none made ahead")
		}
	})
	if fits {
		s.namespaces.restock()
	}
}
