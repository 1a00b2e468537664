package server

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How often and how long the end of a process is asked for that its parent has not reaped yet.
const (
	exitPoll  = 5 * time.Millisecond
	exitTries = 40
)

// exitStatus returns the wait status of a process that has ended, and that was another's child. After
// its parent reaped it, its pidfd tells (PIDFD_GET_INFO with PIDFD_INFO_EXIT, Linux 6.15); before,
// field 52 of /proc/PID/stat does. false: nothing tells.
func exitStatus(pidfd, pid int) (syscall.WaitStatus, bool) {
	for range exitTries {
		info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
		err := unix.IoctlPidfdInfo(pidfd, &info)
		if err == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0 {
			return syscall.WaitStatus(info.Exit_code), true
		}
		if status, ok := zombieStatus(pidfd, pid); ok {
			return status, true
		}
		if err != nil && unix.PidfdSendSignal(pidfd, 0, nil, 0) != nil {
			return 0, false // reaped, and this kernel's pidfds tell nothing
		}
		time.Sleep(exitPoll)
	}
	return 0, false
}

// zombieStatus reads how an unreaped process ended. The pid is the pidfd's process's before and after,
// for as long as the process is there its pid is not given to another.
func zombieStatus(pidfd, pid int) (syscall.WaitStatus, bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil || unix.PidfdSendSignal(pidfd, 0, nil, 0) != nil {
		return 0, false
	}
	// Without the right to look (ptrace(2), PTRACE_MODE_READ_FSCREDS) the field is there and 0. The
	// links of ns/ want the same right and say so.
	if _, err := os.Readlink(dir + "/ns/mnt"); os.IsPermission(err) {
		return 0, false
	}
	return parseZombie(stat)
}

// parseZombie takes exit_code out of /proc/PID/stat (proc_pid_stat(5)): false unless it is a zombie's.
func parseZombie(stat []byte) (syscall.WaitStatus, bool) {
	_, rest, ok := bytes.Cut(stat, []byte("("))
	end := bytes.LastIndexByte(rest, ')') // the name may have parentheses itself
	if !ok || end < 0 {
		return 0, false
	}
	fields := bytes.Fields(rest[end+1:]) // from field 3 on
	const state, exitCode = 0, 52 - 3
	if len(fields) <= exitCode || string(fields[state]) != "Z" {
		return 0, false
	}
	code, err := strconv.ParseUint(string(fields[exitCode]), 10, 32)
	if err != nil {
		return 0, false
	}
	return syscall.WaitStatus(code), true
}

func waitStatus(w unix.WaitStatus) syscall.WaitStatus { return syscall.WaitStatus(w) }

func dup(fd int) int {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return -1
	}
	return n
}
