package spec

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

func TestStopSignal(t *testing.T) {
	for _, c := range []struct {
		config int
		image  string
		want   int
	}{
		{0, "", 15}, {0, "SIGTERM", 15}, {0, "TERM", 15}, {0, "15", 15}, {0, "quit", 3}, {0, "SIGKILL", 9}, {9, "SIGINT", 9},
		{0, "SIGRTMIN", 34}, {0, "RTMIN+3", 37}, {0, "SIGRTMIN+3", 37}, {0, "SIGRTMAX", 64}, {0, "SIGRTMAX-14", 50}, {0, "37", 37},
		// What no kernel knows must not make a container impossible to stop.
		{0, "SIGNONE", 15}, {0, "0", 15}, {0, "65", 15}, {0, "-9", 15}, {0, "SIGRTMIN+31", 15}, {0, "SIGRTMAX-31", 15}, {0, "SIGRTMIN-1", 15},
		{0, "SIGRTMAX+1", 15}, {0, "SIGRTMIN+", 15}, {0, "SIGRTMIN+x", 15}, {0, "SIGRTMIN+-1", 15}, {99, "", 15}, {-1, "INT", 2}, {64, "", 64},
	} {
		if got := StopSignal(c.config, c.image); got != c.want {
			t.Errorf("%d, %q: %d, want %d", c.config, c.image, got, c.want)
		}
	}
}

// TestSignalNames: each signal that a name means, by all its names.
func TestSignalNames(t *testing.T) {
	names := map[string]int{}
	for n := 1; n < 32; n++ {
		names[unix.SignalName(unix.Signal(n))] = n
	}
	for n := sigRTMin; n <= sigRTMax; n++ { // 32 and 33 are libc's own
		names[fmt.Sprintf("SIGRTMIN+%d", n-sigRTMin)], names[fmt.Sprintf("SIGRTMAX-%d", sigRTMax-n)] = n, n
	}
	for name, want := range names {
		if got, ok := ParseSignal(name); !ok || got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
}
