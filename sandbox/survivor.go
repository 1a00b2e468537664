package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// errStillAlive: a process survives SIGKILL; the kernel holds it.
var errStillAlive = errors.New("still alive after SIGKILL")

// survivors is errStillAlive with what holds the processes, as far as /proc tells.
// Those in an uninterruptible wait are named; without any, the first few.
func survivors(pids []int) error {
	const most = 5
	var hung, others []string
	for _, pid := range pids {
		text, waits := survivor(pid)
		switch {
		case text == "":
		case waits:
			hung = append(hung, text)
		default:
			others = append(others, text)
		}
	}
	switch {
	case len(hung) > 0:
		return fmt.Errorf("%w: %s; only what it waits for can end that, as a disk or a file server", errStillAlive, list(hung, most))
	case len(others) > 0:
		return fmt.Errorf("%w: %s", errStillAlive, list(others, most))
	default:
		return errStillAlive
	}
}

func list(texts []string, most int) string {
	if more := len(texts) - most; more > 0 {
		return strings.Join(texts[:most], ", ") + ", and " + strconv.Itoa(more) + " more"
	}
	return strings.Join(texts, ", ")
}

// survivor describes a process by /proc/PID/stat and /proc/PID/wchan (proc(5)); "" for
// one that is gone. waits says that it is in an uninterruptible wait, state D.
func survivor(pid int) (text string, waits bool) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return "", false
	}
	// The name is in parentheses, and may have some itself.
	line := string(stat)
	open, end := strings.IndexByte(line, '('), strings.LastIndexByte(line, ')')
	if open < 0 || end < open || end+2 >= len(line) {
		return "", false
	}
	name, state := line[open+1:end], line[end+2:end+3]
	if state != "D" {
		return fmt.Sprintf("process %d (%s) is in state %s", pid, name, state), false
	}
	where := ""
	if wchan, err := os.ReadFile(filepath.Join(dir, "wchan")); err == nil && len(wchan) > 1 {
		where = " (" + string(wchan) + ")"
	}
	return fmt.Sprintf("process %d (%s) is in an uninterruptible wait in the kernel, state D%s", pid, name, where), true
}
