package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTakeLocks(t *testing.T) {
	root, state := filepath.Join(t.TempDir(), "a", "root"), filepath.Join(t.TempDir(), "state")
	release, err := takeLocks(root, state)
	if err != nil {
		t.Fatal(err)
	}
	for _, dirs := range [][2]string{{root, state}, {t.TempDir(), state}, {root, t.TempDir()}, {state, state}} {
		_, err := takeLocks(dirs[0], dirs[1])
		if !errors.Is(err, errServed) || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) {
			t.Errorf("%v: %v, want errServed with our pid", dirs, err)
		}
	}
	// The failed attempts above that had one lock have let it go.
	release()
	again, err := takeLocks(root, state)
	if err != nil {
		t.Fatalf("after the release: %v", err)
	}
	again()
}

func TestTakeLocksOfOneDirectory(t *testing.T) {
	dir := t.TempDir()
	release, err := takeLocks(dir, dir+"/")
	if err != nil {
		t.Fatal(err)
	}
	release()
}
