package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berth-runtime/berth/oci/program"
	"github.com/berth-runtime/berth/sandbox/keeper/server"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// TestMain is the keeper too: a Client under test executes this very binary as its keeper.
func TestMain(m *testing.M) {
	if os.Args[0] == "berth-keeper" {
		os.Exit(server.Main(os.Args))
	}
	if os.Args[0] == "stranger" {
		stranger(os.Args[1])
		return
	}
	os.Exit(m.Run())
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
}

// bed is a state directory with its keeper.
type bed struct {
	t   testing.TB
	ctx context.Context
	cfg Config
}

func newBed(t testing.TB) *bed {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	if testing.Verbose() {
		log.SetOutput(os.Stderr)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	dir := t.TempDir()
	return &bed{t: t, ctx: ctx, cfg: Config{Dir: filepath.Join(dir, "keeper"), Binary: "/proc/self/exe", StateDir: dir, Log: log}}
}

// connect connects a client; when the test ends its keeper is ended too.
func (b *bed) connect() *Client {
	b.t.Helper()
	c, err := Connect(b.ctx, b.cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		pid := c.PID()
		c.Close()
		endKeeper(b.t, pid, b.cfg.StateDir)
		// A failed test may have left the client with a keeper that it was just about to use.
		if dir, err := os.Open(b.cfg.Dir); err == nil {
			defer dir.Close()
			if conn, err := connect(dir, b.cfg.patience()); err == nil {
				defer conn.Close()
				hello, kept, _ := greet(conn, b.cfg.patience())
				closeKept(kept)
				endKeeper(b.t, hello.PID, b.cfg.StateDir)
			}
		}
		if b.t.Failed() {
			log, _ := os.ReadFile(filepath.Join(b.cfg.Dir, "keeper.log"))
			b.t.Logf("keeper.log:\n%s", log)
		}
	})
	return c
}

// endKeeper kills a keeper of ours, by pid and command line, and waits until it is gone.
func endKeeper(t testing.TB, pid int, stateDir string) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	cmdline, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil || string(cmdline) != "berth-keeper\x00"+stateDir+"\x00" {
		return
	}
	kill(t, fd)
}

func kill(t testing.TB, pidfd int) {
	t.Helper()
	if err := unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		t.Error(err)
	}
	p := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, 5000)
		if err == unix.EINTR {
			continue
		}
		if n != 1 || err != nil {
			t.Errorf("process did not end: %v", err)
		}
		return
	}
}

// killKeeper kills the client's keeper and waits until it is gone.
func killKeeper(t testing.TB, c *Client) {
	t.Helper()
	fd, err := unix.PidfdOpen(c.PID(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	kill(t, fd)
}

// newKeeper waits until the client has another keeper than old.
func newKeeper(t testing.TB, c *Client, old int) {
	t.Helper()
	for range 1000 {
		if c.PID() != old {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("no new keeper")
}

// builder makes launch programs by hand.
type builder struct{ p program.Program }

func (b *builder) str(s string) program.Arg {
	at := len(b.p.Data)
	b.p.Data = append(append(b.p.Data, s...), 0)
	return program.Arg{Kind: program.ArgData, Value: uint64(at)}
}

func (b *builder) vec(ss ...string) program.Arg {
	var offs []uint32
	for _, s := range ss {
		offs = append(offs, uint32(b.str(s).Value))
	}
	for len(b.p.Data)%8 != 0 {
		b.p.Data = append(b.p.Data, 0)
	}
	at := len(b.p.Data)
	for i, o := range offs {
		b.p.Pointers = append(b.p.Pointers, program.Pointer{At: uint32(at + 8*i), To: o})
	}
	b.p.Data = append(b.p.Data, make([]byte, 8*(len(ss)+1))...)
	return program.Arg{Kind: program.ArgData, Value: uint64(at)}
}

func (b *builder) step(call program.Call, args ...program.Arg) {
	b.p.Steps = append(b.p.Steps, program.Step{Call: call, Args: args})
}

func imm(v uint64) program.Arg { return program.Arg{Value: v} }

func slot(n uint64) program.Arg { return program.Arg{Kind: program.ArgSlot, Value: n} }

// execute is a program whose slots become descriptors 1, 2, … and that executes argv.
func execute(slots int, argv ...string) *program.Program {
	b := &builder{}
	b.p.Clone.Cgroup = program.NoSlot
	b.p.Slots = make([]string, slots)
	for i := range slots {
		b.step(unix.SYS_DUP3, slot(uint64(i)), imm(uint64(i+1)))
	}
	b.step(unix.SYS_EXECVE, b.str(argv[0]), b.vec(argv...), b.vec("PATH=/bin:/usr/bin"))
	return &b.p
}

func shell(slots int, script string) *program.Program {
	return execute(slots, "/bin/sh", "-c", script)
}

// container is a launched process with two streams and a log.
type container struct {
	key  string
	log  string
	proc *Process
}

func (b *bed) openLog(path string) *os.File {
	b.t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		b.t.Fatal(err)
	}
	return f
}

// launch runs p, whose slots 0 and 1 are stdout and stderr, with a log.
func (b *bed) launch(c *Client, key string, p *program.Program, change func(*Launch)) *container {
	b.t.Helper()
	k := &container{key: key, log: filepath.Join(b.cfg.StateDir, key+".log")}
	log := b.openLog(k.log)
	defer log.Close()
	l := Launch{Key: key, Program: p, Log: log}
	for _, name := range []string{"stdout", "stderr"} {
		r, w, err := os.Pipe()
		if err != nil {
			b.t.Fatal(err)
		}
		defer r.Close()
		defer w.Close()
		l.Files = append(l.Files, w)
		l.Streams = append(l.Streams, Stream{Name: name, File: r})
	}
	if change != nil {
		change(&l)
	}
	var err error
	if k.proc, err = c.Launch(b.ctx, l); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		kill(b.t, int(k.proc.PidFD.Fd()))
		k.proc.PidFD.Close()
	})
	return k
}

// drainExits reads the client's exits so that nothing waits for them.
func drainExits(c *Client) {
	go func() {
		for range c.Exits() {
		}
	}()
}

func (b *bed) wait(c *Client, key string) Exit {
	b.t.Helper()
	e, err := c.Wait(b.ctx, key)
	if err != nil {
		b.t.Fatal(err)
	}
	return e
}

// entry is a parsed CRI log entry.
type entry struct{ stream, tag, text string }

func parseLog(t testing.TB, path string) []entry {
	t.Helper()
	log, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []entry
	for i, line := range strings.SplitAfter(string(log), "\n") {
		if line == "" {
			continue
		}
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
		if len(f) != 4 || !strings.HasSuffix(line, "\n") {
			t.Fatalf("%s:%d: malformed entry %q", path, i+1, line)
		}
		if _, err := time.Parse(time.RFC3339Nano, f[0]); err != nil {
			t.Fatalf("%s:%d: %v", path, i+1, err)
		}
		out = append(out, entry{f[1], f[2], f[3]})
	}
	return out
}

// raw joins what a stream wrote.
func raw(entries []entry, stream string) string {
	var b strings.Builder
	for _, e := range entries {
		if e.stream != stream {
			continue
		}
		b.WriteString(e.text)
		if e.tag == "F" {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func countFiles(t testing.TB, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// memory returns Rss and Pss of a process in KiB.
func memory(t testing.TB, pid int) (rss, pss int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		var n int
		if _, err := fmt.Sscanf(string(line), "Rss: %d kB", &n); err == nil {
			rss = n
		}
		if _, err := fmt.Sscanf(string(line), "Pss: %d kB", &n); err == nil {
			pss = n
		}
	}
	return rss, pss
}

// build builds the real keeper.
func build(t testing.TB, path string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "github.com/berth-runtime/berth/cmd/berth-keeper")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build keeper: %v\n%s", err, out)
	}
}

// stranger says hello to a keeper as another user.
func stranger(path string) {
	dir, err := os.Open(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	conn, err := connect(dir, patience)
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, _, err := greet(conn, patience); errors.Is(err, io.EOF) || gone(err) {
		fmt.Println("end of conversation")
	} else {
		fmt.Println("greeted:", err)
	}
}
