package keeper

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// orphan has a program leave a process behind, which waits until go is called, says something and exits
// with 7; and returns it with the read end of what it writes to.
func orphan(b *bed, c *Client, name string) (proc *Process, output *os.File, goOn func()) {
	b.t.Helper()
	gate, file := filepath.Join(b.cfg.StateDir, name+".gate"), filepath.Join(b.cfg.StateDir, name+".pid")
	if err := unix.Mkfifo(gate, 0o600); err != nil {
		b.t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	defer w.Close()
	b.t.Cleanup(func() { r.Close() })
	script := "sh -c 'read x < " + gate + "; echo from the orphan; exit 7' & echo $! > " + file
	left, err := c.Launch(b.ctx, Launch{Key: name + "-parent", Program: shell(1, script), Files: []*os.File{w}, Oneshot: true})
	if err != nil {
		b.t.Fatal(err)
	}
	left.PidFD.Close()
	b.wait(c, name+"-parent")
	text, err := os.ReadFile(file)
	if err != nil {
		b.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		b.t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	proc = &Process{PID: pid, PidFD: os.NewFile(uintptr(fd), "pidfd")}
	b.t.Cleanup(func() {
		kill(b.t, fd)
		proc.PidFD.Close()
	})
	return proc, r, func() {
		if err := os.WriteFile(gate, []byte("go\n"), 0); err != nil {
			b.t.Error(err)
		}
	}
}

// What a program left behind is looked after like what was launched; also when the keeper dies.
func TestRootAdopt(t *testing.T) {
	needRoot(t)
	b := newBed(t)
	c := b.connect()
	drainExits(c)
	for name, meanwhile := range map[string]func(){
		"lives": func() {},
		"dies": func() {
			old := c.PID()
			killKeeper(t, c)
			newKeeper(t, c, old)
		},
	} {
		proc, output, goOn := orphan(b, c, name)
		log := b.openLog(filepath.Join(b.cfg.StateDir, name+".log"))
		l := Launch{Key: name, Log: log, Streams: []Stream{{Name: "stdout", File: output}}}
		if err := c.Adopt(b.ctx, l, proc); err != nil {
			t.Fatal(err)
		}
		if err := c.Adopt(b.ctx, l, proc); !errors.Is(err, ErrKeyInUse) {
			t.Errorf("adopted twice: %v", err)
		}
		log.Close()
		meanwhile()
		goOn()
		if exit := b.wait(c, name); !exit.Known || exit.Status.ExitStatus() != 7 {
			t.Errorf("keeper %s: exit %+v", name, exit)
		}
		if text := raw(parseLog(t, filepath.Join(b.cfg.StateDir, name+".log")), "stdout"); text != "from the orphan\n" {
			t.Errorf("keeper %s: log %q", name, text)
		}
		if err := c.Forget(b.ctx, name); err != nil {
			t.Error(err)
		}
	}
}
