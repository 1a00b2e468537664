package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "berth.sock")
	l, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != os.ModeSocket|0o660 {
		t.Fatalf("mode %v, %v, want srw-rw----", info.Mode(), err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if _, err = listen(path); !errors.Is(err, errServed) {
		t.Errorf("a second listener: %v, want errServed", err)
	}
	if conn, err = net.Dial("unix", path); err != nil {
		t.Fatalf("the first is gone: %v", err)
	}
	conn.Close()

	// A daemon that was killed leaves the path.
	l.Close()
	if _, err = os.Lstat(path); err != nil {
		t.Fatalf("the test's premise: %v", err)
	}
	l, err = listen(path)
	if err != nil {
		t.Fatalf("a stale socket: %v", err)
	}
	l.Close()
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// One who was killed between bind and rename leaves the other name.
func TestListenOverLeftovers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berth.sock")
	if err := os.WriteFile(path+".new", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestListenReplacesNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(path, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(path); err == nil {
		t.Error("a file was taken for a socket")
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "data" {
		t.Errorf("the file is %q, %v", data, err)
	}
}
