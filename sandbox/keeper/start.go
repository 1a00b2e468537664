package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/berth-runtime/berth/sandbox/keeper/wire"
	"golang.org/x/sys/unix"
)

const (
	busyPatience = 2 * time.Second // for a keeper to notice that its last daemon is dead
	logMost      = 1 << 20         // bytes of keeper.log, beyond which a new keeper begins it anew
)

// keptMessage is what a keeper tells of one key when a client connects.
type keptMessage struct {
	record *wire.Record
	files  []int
}

func closeKept(kept []keptMessage) {
	for _, k := range kept {
		closeAll(k.files...)
	}
}

// dial connects to the keeper, and starts one when none answers. Whoever does this holds the lock.
func (cfg Config) dial(ctx context.Context) (*wire.Conn, wire.Hello, []keptMessage, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, wire.Hello{}, nil, fmt.Errorf("make keeper's directory: %w", err)
	}
	lock, err := lockFile(ctx, cfg.path("lock"))
	if err != nil {
		return nil, wire.Hello{}, nil, err
	}
	defer lock.Close()
	dir, err := os.Open(cfg.Dir)
	if err != nil {
		return nil, wire.Hello{}, nil, fmt.Errorf("open keeper's directory: %w", err)
	}
	defer dir.Close()
	missed := 0
	for start := time.Now(); ; {
		conn, hello, kept, err := cfg.meet(dir)
		// A keeper may be dying just now; the next connect finds it dead, and another is started.
		dying := errors.Is(err, io.EOF) || gone(err)
		switch {
		case err == nil:
			return conn, hello, kept, nil
		case silent(err):
			if missed++; missed%mostMissed == 0 {
				if err := cfg.killSilent(ctx); err != nil {
					return nil, wire.Hello{}, nil, err
				}
			}
			start = time.Now()
		case !errors.Is(err, ErrBusy) && !dying || time.Since(start) > busyPatience:
			return nil, wire.Hello{}, nil, err
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return nil, wire.Hello{}, nil, fmt.Errorf("connect to keeper: %w", err)
		}
	}
}

// meet connects to the keeper, after it started one if there was none, and greets it.
func (cfg Config) meet(dir *os.File) (*wire.Conn, wire.Hello, []keptMessage, error) {
	conn, err := connect(dir, cfg.patience())
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT) {
		if err = cfg.startKeeper(dir); err == nil {
			conn, err = connect(dir, cfg.patience())
		}
	}
	if err != nil {
		return nil, wire.Hello{}, nil, err
	}
	hello, kept, err := greet(conn, cfg.patience())
	if err != nil {
		conn.Close()
		return nil, wire.Hello{}, nil, err
	}
	return conn, hello, kept, nil
}

// greet says hello and takes the list of what is kept, each message of which the keeper has some time for.
func greet(conn *wire.Conn, patience time.Duration) (hello wire.Hello, kept []keptMessage, err error) {
	defer func() {
		if err != nil {
			closeKept(kept)
			kept = nil
		}
	}()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return hello, nil, fmt.Errorf("greet keeper: %w", err)
	}
	mine := wire.Hello{Version: wire.Version, PID: os.Getpid()}
	if err := conn.Send(wire.Message{Kind: wire.KindHello, Body: mine.Append(nil)}); err != nil {
		return hello, nil, fmt.Errorf("greet keeper: %w", err)
	}
	m, err := conn.Receive()
	if err != nil {
		return hello, nil, fmt.Errorf("greet keeper: %w", err)
	}
	m.CloseFiles()
	if hello, err = wire.ParseHello(m.Body); err != nil || m.Kind != wire.KindHello {
		return hello, nil, fmt.Errorf("greet keeper: no hello: %w", errors.Join(err, wire.ErrFormat))
	}
	if hello.Version < wire.Oldest || hello.Version > wire.Version {
		return hello, nil, fmt.Errorf("greet keeper: it speaks version %d, this daemon %d", hello.Version, wire.Version)
	}
	if hello.Refused {
		return hello, nil, ErrBusy
	}
	for {
		m, err := conn.Receive()
		if err != nil {
			return hello, kept, fmt.Errorf("list what keeper keeps: %w", err)
		}
		if m.Kind == wire.KindListed {
			return hello, kept, conn.SetDeadline(time.Time{})
		}
		r, err := wire.ParseRecord(m.Body, len(m.Files))
		if err != nil || m.Kind != wire.KindKept {
			m.CloseFiles()
			return hello, kept, fmt.Errorf("list what keeper keeps: %w", errors.Join(errKept, err, m.Err))
		}
		kept = append(kept, keptMessage{r, m.Files})
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			return hello, kept, fmt.Errorf("list what keeper keeps: %w", err)
		}
	}
}

// socketAddr names the socket through the directory's descriptor: sun_path ends at 108 bytes (unix(7)).
func socketAddr(dir *os.File) *unix.SockaddrUnix {
	return &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/keeper.sock"}
}

// connect waits, but not longer, for a keeper whose queue of connections is full.
func connect(dir *os.File, patience time.Duration) (*wire.Conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make socket: %w", err)
	}
	bound := unix.NsecToTimeval(patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &bound); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bound wait for keeper: %w", err)
	}
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Connect(fd, socketAddr(dir))
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("connect to keeper: %w", err)
	}
	return wire.NewConn(fd)
}

// removeSocket takes the socket of a keeper that ended away.
func (cfg Config) removeSocket(ctx context.Context) error {
	lock, err := lockFile(ctx, cfg.path("lock"))
	if err != nil {
		return err
	}
	defer lock.Close()
	dir, err := os.Open(cfg.Dir)
	if err != nil {
		return fmt.Errorf("open keeper's directory: %w", err)
	}
	defer dir.Close()
	if conn, err := connect(dir, cfg.patience()); err == nil {
		conn.Close() // another daemon was quicker, and this is its keeper
		return nil
	}
	if err := unix.Unlinkat(int(dir.Fd()), "keeper.sock", 0); err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove keeper's socket: %w", err)
	}
	return nil
}

// startKeeper executes a keeper that listens on the socket. When it returns, the socket can be
// connected to.
func (cfg Config) startKeeper(dir *os.File) error {
	begin := time.Now()
	listener, err := listen(dir)
	if err != nil {
		return err
	}
	defer listener.Close()
	log, err := openLog(cfg.path("keeper.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	defer null.Close()
	binary, err := sealBinary(cfg.Binary)
	if err != nil {
		return err
	}
	defer binary.Close()
	// A session of its own, and no Pdeathsig: it outlives the daemon. By its descriptor: nothing can be
	// written to what runs (CVE-2019-5736). An empty environment: it has nothing to learn from ours.
	p, err := os.StartProcess("/proc/self/fd/"+strconv.Itoa(int(binary.Fd())), []string{"berth-keeper", cfg.StateDir}, &os.ProcAttr{
		Dir: "/", Env: []string{}, Files: []*os.File{null, null, null, listener, log},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("execute %s: %w", cfg.Binary, err)
	}
	entry := cfg.Log.WithField("pid", p.Pid)
	if err := cfg.noteKeeper(p.Pid); err != nil {
		entry.WithError(err).Warn("keeper could not be killed should it hang while no daemon knows it")
	}
	// -999: the last to go when memory ends. Lowering it takes CAP_SYS_RESOURCE, which not every node grants.
	if err := os.WriteFile("/proc/"+strconv.Itoa(p.Pid)+"/oom_score_adj", []byte("-999"), 0); err != nil {
		entry.WithError(err).Warn("keeper is not protected from the OOM killer")
	}
	if cfg.Enter != nil {
		if err := cfg.Enter(p.Pid); err != nil {
			entry.WithError(err).Warn("keeper could not be put into its cgroup")
		}
	}
	entry.WithField("took", time.Since(begin)).Info("keeper started")
	go func() { _, _ = p.Wait() }() // reaps it, should it end before this daemon does
	return nil
}

func listen(dir *os.File) (*os.File, error) {
	if err := unix.Unlinkat(int(dir.Fd()), "keeper.sock", 0); err != nil && err != unix.ENOENT {
		return nil, fmt.Errorf("remove stale socket: %w", err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make socket: %w", err)
	}
	listener := os.NewFile(uintptr(fd), "keeper.sock")
	if err := unix.Bind(fd, socketAddr(dir)); err != nil {
		listener.Close()
		return nil, fmt.Errorf("bind keeper's socket: %w", err)
	}
	if err := unix.Listen(fd, 8); err != nil {
		listener.Close()
		return nil, fmt.Errorf("listen on keeper's socket: %w", err)
	}
	return listener, nil
}

func openLog(path string) (*os.File, error) {
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if st, err := os.Stat(path); err == nil && st.Size() > logMost {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open keeper's log: %w", err)
	}
	return f, nil
}

// sealBinary copies an executable into a sealed memfd.
func sealBinary(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open keeper's binary: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("read keeper's binary: %w", err)
	}
	fd, err := seal("berth-keeper", b, unix.MFD_EXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	// Above those that the child gets: its copy must still be there when it executes it.
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 16)
	if err != nil {
		return nil, fmt.Errorf("duplicate keeper's binary: %w", err)
	}
	return os.NewFile(uintptr(high), path), nil
}

// lockFile takes an exclusive flock. Closing the file gives it back.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (cfg Config) path(name string) string { return filepath.Join(cfg.Dir, name) }
