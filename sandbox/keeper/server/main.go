package server

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// The descriptors that a keeper is started with, besides /dev/null as 0 to 2.
const (
	ListenerFD = 3
	LogFD      = 4
)

// Main is the main function of a keeper; it returns the exit code. args are the process's.
func Main(args []string) int {
	log := os.NewFile(LogFD, "keeper.log")
	if len(args) != 2 || !isListener(ListenerFD) || log == nil {
		_, _ = os.Stderr.WriteString("berth-keeper is started by the daemon (berth serve), with the state directory as its argument\n")
		return 2
	}
	unix.CloseOnExec(LogFD)
	tune(log)
	if err := Serve(context.Background(), Config{Listener: ListenerFD, Log: log}); err != nil {
		(&eventLog{w: log}).event("keeper failed", "error", err)
		return 1
	}
	return 0
}

// tune makes the Go runtime small: what the keeper allocates is little and short-lived.
func tune(log *os.File) {
	runtime.GOMAXPROCS(2)
	debug.SetGCPercent(25)
	debug.SetMemoryLimit(32 << 20)
	_ = debug.SetCrashOutput(log, debug.CrashOptions{})            // last words would go to /dev/null
	_ = os.WriteFile("/proc/self/comm", []byte("berth-keeper"), 0) // we were executed by descriptor, our name is a number
	_ = os.Chdir("/")                                              // hold no mount
	unix.Umask(0)
}

func isListener(fd int) bool {
	on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return err == nil && on == 1
}
