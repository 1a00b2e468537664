package harness

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Keeper returns the process of the daemon's keeper, 0 when there is none.
func (d *Daemon) Keeper() int {
	d.t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	d.must(err)
	for _, path := range paths {
		command, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		args := strings.Split(string(command), "\x00")
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil && strings.Contains(args[0], "berth-keeper") && bytes.Contains(command, []byte(d.State)) && !zombie(pid) {
			return pid
		}
	}
	return 0
}

// Zygotes returns the processes that the keeper forks containers from.
func (d *Daemon) Zygotes() []int {
	d.t.Helper()
	keeper := d.Keeper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", keeper))
	d.must(err)
	var out []int
	for _, task := range tasks {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", keeper, task.Name()))
		if err != nil {
			continue // the thread has ended
		}
		for _, child := range strings.Fields(string(children)) {
			command, err := os.ReadFile("/proc/" + child + "/cmdline")
			if err == nil && strings.HasPrefix(string(command), "berth-zygote\x00") {
				pid, err := strconv.Atoi(child)
				d.must(err)
				out = append(out, pid)
			}
		}
	}
	return out
}

func zombie(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// KillKeeper ends the keeper as a crash does, and returns when another has taken
// its place.
func (d *Daemon) KillKeeper() {
	d.t.Helper()
	old := d.Keeper()
	if old == 0 {
		d.t.Fatal("there is no keeper to kill")
	}
	d.must(unix.Kill(old, unix.SIGKILL))
	d.Eventually("a new keeper", func() bool {
		pid := d.Keeper()
		return pid != 0 && pid != old
	})
}

// StopKeeper stops the keeper, as a debugger does that is forgotten.
func (d *Daemon) StopKeeper() {
	d.t.Helper()
	keeper := d.Keeper()
	if keeper == 0 {
		d.t.Fatal("there is no keeper to stop")
	}
	d.must(unix.Kill(keeper, unix.SIGSTOP))
}

// Eventually waits until what is true.
func (d *Daemon) Eventually(what string, is func() bool) {
	d.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if is() {
			return
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("after %v still waiting for %s", patience, what)
		}
	}
}

// ExitsOutliveKeepers says whether the kernel tells a process's exit code by its pidfd after another process has
// reaped it (PIDFD_INFO_EXIT, Linux 6.15): else nobody knows the code of one whose keeper was killed.
func ExitsOutliveKeepers() bool {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return false
	}
	var major, minor int
	_, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	return err == nil && (major > 6 || major == 6 && minor >= 15)
}
