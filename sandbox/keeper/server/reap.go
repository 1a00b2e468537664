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
func (t *table) reap() {
	for {
		t.mu.Lock()
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == unix.EINTR {
			t.mu.Unlock()
			continue
		}
		if err != nil || pid <= 0 {
			t.mu.Unlock()
			return
		}
		d := death{status: waitStatus(status), known: true, at: time.Now().UnixNano()}
		if e := t.byPID[pid]; e != nil {
			t.died(e, d)
		} else if t.pending > 0 {
			t.keepStray(pid, d)
		}
		t.mu.Unlock()
	}
}

func (t *table) keepStray(pid int, d death) {
	if len(t.strays) >= maxStrays {
		for other, o := range t.strays {
			if d.at-o.at > int64(strayAge) {
				delete(t.strays, other)
			}
		}
	}
	t.strays[pid] = d
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

// takeStray returns the end of a process that was reaped before anybody knew it. A stray of the same pid
// proves nothing by itself: with a launch pending for long, the number may have gone around.
func (t *table) takeStray(p *process) (d death, ok bool) {
	if p != nil && (p.gone || reaped(p.pidfd)) {
		ok = true
		d = t.strays[p.pid] // the zero value, "not known", should it have been dropped
		if d.at == 0 {
			d.at = time.Now().UnixNano()
		}
		delete(t.strays, p.pid)
	}
	if t.pending == 0 {
		clear(t.strays)
	}
	return d, ok
}

// killStray kills a child that could not be registered, unless it was reaped already: then its pid may be
// another's.
func (t *table) killStray(pid int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ended := t.strays[pid]; !ended {
		_ = unix.Kill(pid, unix.SIGKILL) // ESRCH: it is gone
	}
}
