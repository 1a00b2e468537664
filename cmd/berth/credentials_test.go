package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-runtime/berth/imagestore"
	"golang.org/x/sys/unix"
)

func TestParseCredentials(t *testing.T) {
	for name, c := range map[string]struct {
		text, in string
		want     *imagestore.Auth
		wrong    string
	}{
		"none":                {"", "x\n", nil, ""},
		"both":                {"me:se:cret", "x\n", &imagestore.Auth{Username: "me", Password: "se:cret"}, ""},
		"empty password":      {"me:", "x\n", &imagestore.Auth{Username: "me"}, ""},
		"from standard input": {"me", "s3cret\r\nmore\n", &imagestore.Auth{Username: "me", Password: "s3cret"}, ""},
		"without an end":      {"me", "s3cret", &imagestore.Auth{Username: "me", Password: "s3cret"}, ""},
		"nothing to read":     {"me", "", nil, "password of me"},
		"no user":             {":s3cret", "", nil, "no user name"},
	} {
		path := filepath.Join(t.TempDir(), "in")
		if err := os.WriteFile(path, []byte(c.in), 0o600); err != nil {
			t.Fatal(err)
		}
		in, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseCredentials(t.Context(), c.text, in)
		in.Close()
		switch {
		case c.wrong != "":
			if err == nil || !strings.Contains(err.Error(), c.wrong) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%s: %v", name, err)
			}
		case err != nil, (got == nil) != (c.want == nil), got != nil && *got != *c.want:
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// Whoever thinks better of it at the question for a password gets a shell that shows again what is typed.
func TestParseCredentialsInterrupted(t *testing.T) {
	terminal := openTerminal(t)
	shown := func() bool {
		mode, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return mode.Lflag&unix.ECHO != 0
	}
	ctx, interrupt := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := parseCredentials(ctx, "me", terminal)
		done <- err
	}()
	for deadline := time.Now().Add(10 * time.Second); shown(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the password would be shown")
		}
	}
	interrupt()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it still waits for a password")
	}
	if !shown() {
		t.Error("what is typed stays hidden")
	}
}

// openTerminal gives a terminal (pty(7)) at which nobody types.
func openTerminal(t *testing.T) *os.File {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return terminal // not closed here: a read of it may be under way until the master is
}
