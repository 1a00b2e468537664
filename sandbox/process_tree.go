package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// treeTime bounds how long the descendants of one process are hunted. They may fork faster than they are killed, or hang
// in the kernel.
const treeTime = 5 * time.Second

// killTree kills the process and all its descendants, whatever sessions and process groups they made for themselves.
// Where the process is the reaper of its descendants (oci.Exec.Reaper) none is missed: what an ended parent leaves
// becomes its child, so that it dies last. It is stopped before, or it would go on to make others. All are dead when killTree returns.
//
// Whoever is left after treeTime is named in the error.
func (p *process) killTree(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), treeTime)
	defer cancel()
	err := p.signal(unix.SIGSTOP)
	for wait := time.Millisecond; err == nil && p.alive(); wait = min(2*wait, 50*time.Millisecond) {
		var left []int
		if left, err = descendants(p.pid); err != nil || len(left) == 0 {
			break
		}
		err = errors.Join(err, killDescendants(left, p.pid))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			err = errors.Join(err, fmt.Errorf("%d descendants of process %d are left, the first is %d", len(left), p.pid, left[0]))
		}
	}
	err = errors.Join(err, p.killGroup())
	if left := p.wait(ctx); left != nil {
		err = errors.Join(err, fmt.Errorf("process %d is left: %w", p.pid, left))
	}
	return err
}

// killDescendants kills processes that were seen below another, those that are the same still. All are held before the
// first dies: its children may be somebody else's then.
func killDescendants(pids []int, root int) error {
	var errs []error
	var held []int
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("open process %d: %w", pid, err))
			continue
		}
		if below(pid, root) { // with the descriptor held the number can't go to another any more
			held = append(held, fd)
		} else {
			unix.Close(fd)
		}
	}
	for _, fd := range held {
		if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("kill: %w", err))
		}
		unix.Close(fd)
	}
	return errors.Join(errs...)
}

// below says whether a process is a descendant of another.
func below(pid, root int) bool {
	for pid != root {
		s, ok := readStat(pid)
		if !ok || s.parent <= 1 {
			return false
		}
		pid = s.parent
	}
	return true
}

// descendants lists what runs below a process, as this PID namespace has it.
func descendants(root int) ([]int, error) {
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	children := map[int][]int{}
	dead := map[int]bool{} // zombies: nothing to kill, but perhaps a parent of what its other threads made
	for _, e := range entries {
		pid, err := strconv.Atoi(filepath.Base(e))
		if err != nil {
			continue
		}
		if s, ok := readStat(pid); ok {
			children[s.parent] = append(children[s.parent], pid)
			dead[pid] = s.state == 'Z' || s.state == 'X'
		}
	}
	var out []int
	for next := slices.Clone(children[root]); len(next) > 0; next = next[1:] {
		if !dead[next[0]] {
			out = append(out, next[0])
		}
		next = append(next, children[next[0]]...)
	}
	return out, nil
}

// processStat is what of /proc/PID/stat is needed here.
type processStat struct {
	state  byte
	parent int
}

func readStat(pid int) (processStat, bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return processStat{}, false
	}
	return parseStat(string(text))
}

// parseStat takes fields 3 and 4 of proc_pid_stat(5). The second may have spaces and parentheses itself.
func parseStat(text string) (processStat, bool) {
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 2 || len(fields[0]) != 1 {
		return processStat{}, false
	}
	parent, err := strconv.Atoi(fields[1])
	return processStat{fields[0][0], parent}, err == nil
}
