package cri

import (
	"strconv"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// signals holds Linux's number for each number of CRI's Signal enum. It goes by
// number, because cri-api 0.37 renamed every constant (SIGTERM became
// SIGNAL_SIGTERM) and left the numbers. The real-time signals follow below.
var signals = map[v1.Signal]int{
	1:  6,  // SIGABRT
	2:  14, // SIGALRM
	3:  7,  // SIGBUS
	4:  17, // SIGCHLD
	5:  17, // SIGCLD
	6:  18, // SIGCONT
	7:  8,  // SIGFPE
	8:  1,  // SIGHUP
	9:  4,  // SIGILL
	10: 2,  // SIGINT
	11: 29, // SIGIO
	12: 6,  // SIGIOT
	13: 9,  // SIGKILL
	14: 13, // SIGPIPE
	15: 29, // SIGPOLL
	16: 27, // SIGPROF
	17: 30, // SIGPWR
	18: 3,  // SIGQUIT
	19: 11, // SIGSEGV
	20: 16, // SIGSTKFLT
	21: 19, // SIGSTOP
	22: 31, // SIGSYS
	23: 15, // SIGTERM
	24: 5,  // SIGTRAP
	25: 20, // SIGTSTP
	26: 21, // SIGTTIN
	27: 22, // SIGTTOU
	28: 23, // SIGURG
	29: 10, // SIGUSR1
	30: 12, // SIGUSR2
	31: 26, // SIGVTALRM
	32: 28, // SIGWINCH
	33: 24, // SIGXCPU
	34: 25, // SIGXFSZ
}

// The real-time signals are in order on both sides: CRI's 35 (SIGRTMIN) to 65
// (SIGRTMAX) are Linux's 34 to 64. glibc and musl keep 32 and 33 for themselves
// (signal(7)), so SIGRTMIN is 34 for every container.
const (
	firstRealTime = 35
	lastRealTime  = 65
	realTimeShift = 1
)

// decodeSignal gives Linux's number, 0 for "the image's, or the runtime's".
func decodeSignal(field string, in v1.Signal) (int, error) {
	if in == 0 {
		return 0, nil
	}
	if in >= firstRealTime && in <= lastRealTime {
		return int(in) - realTimeShift, nil
	}
	if n, ok := signals[in]; ok {
		return n, nil
	}
	return 0, invalid(field, strconv.Itoa(int(in)), "is a signal that this runtime doesn't know")
}

// signalOf is the inverse of signals. Of two names for one number (SIGCLD, SIGIOT,
// SIGPOLL are the second ones) the lower wins.
var signalOf = func() map[int]v1.Signal {
	out := make(map[int]v1.Signal, len(signals))
	for name, number := range signals {
		if known, ok := out[number]; !ok || name < known {
			out[number] = name
		}
	}
	return out
}()

// encodeSignal gives CRI's enum; a number that CRI has no name for gives
// RUNTIME_DEFAULT.
func encodeSignal(number int) v1.Signal {
	if number >= firstRealTime-realTimeShift && number <= lastRealTime-realTimeShift {
		return v1.Signal(number + realTimeShift)
	}
	return signalOf[number]
}
