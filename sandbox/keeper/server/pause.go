package server

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// Pause is the life of PID 1 in a pod that shares its PID namespace: it reaps what falls to it, and
// returns on SIGTERM or SIGINT.
func Pause() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGCHLD, unix.SIGTERM, unix.SIGINT)
	for {
		reapAll()
		if sig := <-signals; sig != unix.SIGCHLD {
			return
		}
	}
}

func reapAll() {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if err != unix.EINTR && (err != nil || pid <= 0) {
			return
		}
	}
}
