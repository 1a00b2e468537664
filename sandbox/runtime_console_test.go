package sandbox

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/oci"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// sends connects to a console and sends descriptors, as a runtime does.
func sends(t *testing.T, c *console, files ...*os.File) {
	t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: c.path(), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	if _, _, err := conn.WriteMsgUnix([]byte("/dev/ptmx"), rights, nil); err != nil {
		t.Fatal(err)
	}
}

// openFiles counts this process's descriptors.
func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestConsole(t *testing.T) {
	// Longer than a socket's name may be.
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	made, err := oci.TerminalFor(&specs.Spec{})
	if err != nil {
		t.Fatal(err)
	}
	defer made.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	before := openFiles(t)
	for range 2 { // a first attempt's socket is in nobody's way
		if err := os.WriteFile(filepath.Join(dir, consoleSocket), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := listenConsole(dir)
		if err != nil {
			t.Fatal(err)
		}
		sends(t, c, made.Master)
		got, err := c.receive()
		if err != nil {
			t.Fatal(err)
		}
		if err := resize(got.Master, TerminalSize{Width: 33, Height: 11}); err != nil {
			t.Error(err)
		}
		size, err := unix.IoctlGetWinsize(int(made.Slave.Fd()), unix.TIOCGWINSZ)
		if err != nil || size.Col != 33 || size.Row != 11 {
			t.Errorf("another terminal came: %+v, %v", size, err)
		}
		got.Close()
		for name, files := range map[string][]*os.File{"nothing": nil, "no terminal": {null}, "no terminal, and more": {null, made.Master, null}} {
			sends(t, c, files...)
			if got, err := c.receive(); err == nil {
				t.Errorf("%s: a terminal came: %v", name, got)
				got.Close()
			}
		}
		c.close()
		if _, err := os.Lstat(filepath.Join(dir, consoleSocket)); !os.IsNotExist(err) {
			t.Errorf("the socket is left: %v", err)
		}
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
