package spec

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The real-time signals as C programs and CRI see them: glibc and musl keep the
// first two or three for themselves, and both say SIGRTMIN is at least 34.
const (
	sigRTMin = 34
	sigRTMax = 64
)

// StopSignal is the number of the signal that ends a container: config's when
// it is set, else the image's ("SIGTERM", "TERM", "15", "SIGRTMIN+3"), else
// SIGTERM. A name that no kernel knows counts as not set: an image's author
// must not be able to make its containers impossible to stop.
func StopSignal(config int, image string) int {
	if config > 0 && config <= sigRTMax {
		return config
	}
	if n, ok := ParseSignal(image); ok {
		return n
	}
	return int(unix.SIGTERM)
}

// ParseSignal is the number of a signal written as Dockerfiles have it: by
// name, with or without SIG, by number, or counted from SIGRTMIN or SIGRTMAX.
func ParseSignal(s string) (int, bool) {
	if n, err := strconv.Atoi(s); err == nil {
		return n, n > 0 && n <= sigRTMax
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if rest, ok := strings.CutPrefix(name, "RTMIN"); ok {
		return realTime(sigRTMin, rest, "+")
	}
	if rest, ok := strings.CutPrefix(name, "RTMAX"); ok {
		return realTime(sigRTMax, rest, "-")
	}
	n := int(unix.SignalNum("SIG" + name))
	return n, n > 0
}

// realTime is base moved by rest, which is "" or sign and a number.
func realTime(base int, rest, sign string) (int, bool) {
	if rest == "" {
		return base, true
	}
	digits, ok := strings.CutPrefix(rest, sign)
	offset, err := strconv.ParseUint(digits, 10, 8)
	if !ok || err != nil {
		return 0, false
	}
	n := base + int(offset)
	if sign == "-" {
		n = base - int(offset)
	}
	return n, n >= sigRTMin && n <= sigRTMax
}
