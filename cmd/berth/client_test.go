package main

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestNoAnswer: a socket that isn't for everybody is not one that nobody serves.
func TestNoAnswer(t *testing.T) {
	for cause, want := range map[syscall.Errno]string{
		syscall.EACCES: "the daemon's socket is for root and its group: ", syscall.ENOENT: "no daemon answers: ", syscall.ECONNREFUSED: "no daemon answers: ",
	} {
		err := noAnswer(&net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", cause)})
		if !errors.Is(err, cause) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v: %v", cause, err)
		}
	}
}

// TestRootServeWithoutRoot: who forgot sudo is told.
func TestRootServeWithoutRoot(t *testing.T) {
	p := newPlace(t)
	berth := filepath.Join(os.TempDir(), "berth-of-nobody")
	if err := os.Rename(filepath.Join(p.bin, "berth"), berth); err != nil { // t.TempDir is for its owner alone
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(berth) })
	c := exec.Command(berth, "serve", "--root", "/root/berth", "--state", "/root/state")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	c.Dir = "/"
	out, err := c.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "permission denied (berth serve needs root)") {
		t.Errorf("%v: %s", err, out)
	}
}
