package keeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/berth-runtime/berth/sandbox/keeper/wire"
	"golang.org/x/sys/unix"
)

// A keeper that is there and does nothing (it is stopped, frozen, or at a deadlock) is noticed by its silence,
// and killed: what follows is what follows a keeper's death.
//
//	connected    ping ─▶ no answer for Patience, three times ─▶ SIGKILL ─▶ its end ─▶ recover
//	connecting   hello ─▶ no answer for Patience, three times ─▶ SIGKILL ─▶ its end ─▶ another is started
const (
	patience   = 10 * time.Second
	mostMissed = 3
	endTime    = 10 * time.Second // for what was killed to end
)

func (cfg Config) patience() time.Duration { return cmp.Or(cfg.Patience, patience) }

// watch pings the keeper of a link as long as that lasts, and kills it when it doesn't answer.
func (u *upkeep) watch(l *link) {
	if !l.pinged {
		return
	}
	keeper, err := os.FindProcess(l.pid) // by pidfd (Linux 5.3): never another process
	if err != nil {
		u.cfg.Log.WithField("pid", l.pid).WithError(err).Warn("keeper is not watched")
		return
	}
	defer func() { _ = keeper.Release() }()
	missed := 0
	var pong chan error // nil: no ping is under way
	for {
		if pong == nil {
			pong = l.ping()
		}
		select {
		case <-l.over:
			return
		case <-pong:
			pong, missed = nil, 0
			if !l.lasts(u.cfg.patience()) {
				return
			}
			continue
		case <-time.After(u.cfg.patience()):
		}
		if missed++; missed < mostMissed {
			continue
		}
		u.cfg.Log.WithField("pid", l.pid).Error("keeper does not answer, killed")
		if err := keeper.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			u.cfg.Log.WithField("pid", l.pid).WithError(err).Error("keeper not killed")
		}
	}
}

// ping asks the keeper for a sign of life. What it sends on has room for one: the answer, or the link's end.
// It sends even when nobody reads the link any more, so it can wait for as long as that lasts.
func (l *link) ping() chan error {
	pong := make(chan error, 1)
	go func() { // ends with the link
		a := l.call(context.Background(), &call{kind: wire.KindPing, child: -1}, &wire.Record{Key: "-"}, nil)
		pong <- a.err
	}()
	return pong
}

// lasts waits, and says whether the link still is.
func (l *link) lasts(d time.Duration) bool {
	select {
	case <-l.over:
		return false
	case <-time.After(d):
		return true
	}
}

// silent says whether an error is a keeper's that takes no connection, or doesn't answer on one.
func silent(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, unix.EAGAIN) // the latter: connect(2), SO_SNDTIMEO
}

// noteKeeper leaves word of which process the keeper is, for a daemon to which it doesn't say so itself.
func (cfg Config) noteKeeper(pid int) error {
	started, err := startTime(pid)
	if err != nil {
		return err
	}
	return os.WriteFile(cfg.path("pid"), fmt.Appendf(nil, "%d %s\n", pid, started), 0o600)
}

// killSilent kills the keeper that noteKeeper told of, and waits for its end.
func (cfg Config) killSilent(ctx context.Context) error {
	text, err := os.ReadFile(cfg.path("pid"))
	if err != nil {
		return fmt.Errorf("keeper does not answer, and which process it is isn't known: %w", err)
	}
	var pid int
	var noted string
	if _, err := fmt.Sscan(string(text), &pid, &noted); err != nil {
		return fmt.Errorf("keeper does not answer, and %s is torn: %w", cfg.path("pid"), err)
	}
	keeper, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("keeper does not answer; open process %d: %w", pid, err)
	}
	defer unix.Close(keeper)
	if started, err := startTime(pid); err != nil || started != noted {
		return fmt.Errorf("keeper does not answer, and process %d is another: %w", pid, errors.Join(err, unix.ESRCH))
	}
	cfg.Log.WithField("pid", pid).Error("keeper does not answer, killed")
	if err := unix.PidfdSendSignal(keeper, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill keeper: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	return awaitEnd(ctx, keeper)
}

// startTime is when a process was started: with its number, what tells it from every other of this boot
// (proc_pid_stat(5), field 22).
func startTime(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", fmt.Errorf("read start of process %d: %w", pid, err)
	}
	_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
	fields := strings.Fields(rest) // from the third on: the name is in parentheses, and may have some itself
	if len(fields) < 20 {
		return "", fmt.Errorf("read start of process %d: %w", pid, unix.EINVAL)
	}
	return fields[19], nil
}
