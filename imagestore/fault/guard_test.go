package fault

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestGuard(t *testing.T) {
	own := errors.New("own")
	for _, want := range []error{nil, own} {
		if err := Guard(func() error { return want }); err != want || Told(err) != "" {
			t.Errorf("got %v (%s), want %v", err, Told(err), want)
		}
	}
	err := fmt.Errorf("layer a: %w", Guard(func() error { panic("secret") }))
	if !errors.Is(err, ErrPanicked) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "goroutine") {
		t.Errorf("got %v", err)
	}
	if told := Told(err); !strings.HasPrefix(told, "secret\n") || !strings.Contains(told, "guard_test.go") {
		t.Errorf("told %q", told)
	}
}
