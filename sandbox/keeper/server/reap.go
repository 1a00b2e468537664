package server

import (
	"time"

	"golang.org/x/sys/unix"
)

// What is remembered of unknown children while a launch is pending: at maxStrays those go that are
// older than strayAge, far more than Child.Wait takes to tell a pid.
const (
	maxStrays = 4096
	strayAge  = 5 * time.Second
)

// reap takes the exit of every child that has ended. Children that no entry knows are orphans that came
// to us as subreaper (prctl(2)), intermediate processes of execs, or an exec's process whose launch is
// still pending: the last are why strays are kept.
func (s *Server) reap() {
	for {
		s.mu.Lock()
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == unix.EINTR {
			s.mu.Unlock()
			continue
		}
		if err != nil || pid <= 0 {
			s.mu.Unlock()
			return
		}
		d := death{status: waitStatus(status), known: true, at: time.Now().UnixNano()}
		if e := s.byPID[pid]; e != nil {
			s.died(e, d)
		} else if s.pending > 0 {
			s.keepStray(pid, d)
		}
		s.mu.Unlock()
	}
}

func (s *Server) keepStray(pid int, d death) {
	if len(s.strays) >= maxStrays {
		for other, o := range s.strays {
			if d.at-o.at > int64(strayAge) {
				delete(s.strays, other)
			}
		}
	}
	s.strays[pid] = d
}

// reaped says whether the child that pidfd refers to was reaped already (waitid(2): ECHILD). With the
// table's lock held nothing is reaped meanwhile.
func reaped(pidfd int) bool {
	for {
		err := unix.Waitid(unix.P_PIDFD, pidfd, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return err == unix.ECHILD
		}
	}
}
