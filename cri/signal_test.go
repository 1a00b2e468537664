package cri

import (
	"errors"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/sandbox/spec"
	"golang.org/x/sys/unix"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The kernel's own names check the table, wherever cri-api has the same name.
func TestDecodeSignal(t *testing.T) {
	for number, name := range v1.Signal_name {
		got, err := decodeSignal("f", v1.Signal(number))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		plain := strings.TrimPrefix(name, "SIGNAL_")
		if want := int(unix.SignalNum(plain)); want != 0 && got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
		if back := encodeSignal(got); got != 0 && signalNumber(t, back) != got {
			t.Errorf("%s: goes back as %s", name, back)
		}
	}
	for number, want := range map[v1.Signal]int{
		0: 0, 23: 15, 13: 9,
		35: 34 /* SIGRTMIN */, 38: 37 /* SIGRTMIN+3, what systemd stops on */, 65: 64, /* SIGRTMAX */
	} {
		if got, err := decodeSignal("f", number); got != want || err != nil {
			t.Errorf("%d: %d, %v, want %d", number, got, err, want)
		}
	}
	for _, number := range []v1.Signal{-1, 66, 1 << 30} {
		if _, err := decodeSignal("f", number); !errors.Is(err, spec.ErrInvalid) {
			t.Errorf("%d: %v, want ErrInvalid", number, err)
		}
	}
}

func signalNumber(t *testing.T, s v1.Signal) int {
	t.Helper()
	n, err := decodeSignal("f", s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestEncodeSignal(t *testing.T) {
	for number, want := range map[int]v1.Signal{
		0: 0, 15: 23, 6: 1 /* SIGABRT, not SIGIOT */, 17: 4, 29: 11, 34: 35, 64: 65,
		32: 0, 33: 0, 65: 0, -3: 0, // CRI has no names for these
	} {
		if got := encodeSignal(number); got != want {
			t.Errorf("%d: %s, want %s", number, got, want)
		}
	}
}
