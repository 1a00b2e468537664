package sandbox

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func TestSurvivors(t *testing.T) {
	own := os.Getpid()
	if text, waits := survivor(own); waits || !strings.Contains(text, "is in state") {
		t.Errorf("this process: %q, %v", text, waits)
	}
	const none = 1 << 30 // beyond the greatest pid_max
	if err := survivors([]int{none}); err != errStillAlive {
		t.Errorf("of nothing: %v", err)
	}
	err := survivors([]int{own, own, own, own, own, own, own, none})
	if !errors.Is(err, errStillAlive) || !strings.HasSuffix(err.Error(), ", and 2 more") {
		t.Errorf("of many: %v", err)
	}
}
