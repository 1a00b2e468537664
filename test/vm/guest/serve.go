package main

import (
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/test/vm/wire"
)

// server runs what the host asks for.
type server struct {
	mu      sync.Mutex // guards both
	out     *gob.Encoder
	running map[int]*exec.Cmd
}

// serve mounts the further disks and answers on the port until the machine ends.
func serve() error {
	for _, option := range options(wire.MountKey) {
		disk, at, _ := strings.Cut(option, ":")
		if err := mountDisk(disk, at); err != nil {
			return err
		}
	}
	port, err := openPort()
	if err != nil {
		return err
	}
	s := &server{out: gob.NewEncoder(port), running: map[int]*exec.Cmd{}}
	s.send(&wire.Message{Exit: &wire.Exit{}})
	for in := gob.NewDecoder(port); ; {
		var m wire.Message
		if err := in.Decode(&m); err != nil {
			return fmt.Errorf("read from the host: %w", err)
		}
		switch {
		case m.Run != nil:
			s.run(m.ID, m.Run)
		case m.Kill:
			s.kill(m.ID)
		case m.File != nil:
			if err := write(m.File); err != nil {
				return err
			}
		}
	}
}

// openPort finds the port by its name; udev, which would make a link, need not run.
func openPort() (*os.File, error) {
	for range 500 {
		names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err == nil && strings.TrimSpace(string(text)) == wire.Port {
				fd, err := unix.Open("/dev/"+filepath.Base(filepath.Dir(name)), unix.O_RDWR|unix.O_CLOEXEC, 0)
				if err != nil {
					return nil, fmt.Errorf("open the host's port: %w", err)
				}
				return os.NewFile(uintptr(fd), wire.Port), nil
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, errors.New("the host's port is not there")
}

func (s *server) send(m *wire.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.out.Encode(m); err != nil {
		fmt.Fprintln(os.Stderr, "guest: write to the host:", err)
	}
}

// stream is an io.Writer of a program's output.
type stream struct {
	s      *server
	id, no int
}

func (w stream) Write(p []byte) (int, error) {
	w.s.send(&wire.Message{ID: w.id, Stream: w.no, Data: p})
	return len(p), nil
}

func (s *server) run(id int, r *wire.Run) {
	c := exec.Command(r.Args[0], r.Args[1:]...)
	c.Dir = r.Dir
	if c.Dir == "" {
		c.Dir = "/"
	}
	c.Env = append([]string{"PATH=" + path, "HOME=/root", "TMPDIR=/tmp", "LANG=C.UTF-8"}, r.Env...)
	c.Stdout, c.Stderr = stream{s, id, 1}, stream{s, id, 2}
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	c.WaitDelay = 5 * time.Second // what it leaves behind may hold its output
	if err := c.Start(); err != nil {
		s.send(&wire.Message{ID: id, Exit: &wire.Exit{Err: err.Error()}})
		return
	}
	s.mu.Lock()
	s.running[id] = c
	s.mu.Unlock()
	go func() { // ends with the program
		err := c.Wait()
		s.mu.Lock()
		delete(s.running, id)
		s.mu.Unlock()
		s.send(&wire.Message{ID: id, Exit: exitOf(err)})
	}()
}

func exitOf(err error) *wire.Exit {
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return &wire.Exit{}
	case !errors.As(err, &exit):
		return &wire.Exit{Err: err.Error()}
	}
	if status := exit.Sys().(syscall.WaitStatus); status.Signaled() {
		return &wire.Exit{Code: 128 + int(status.Signal())}
	}
	return &wire.Exit{Code: exit.ExitCode()}
}

// kill ends a program and all of its session that kept its group.
func (s *server) kill(id int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.running[id]; c != nil {
		_ = unix.Kill(-c.Process.Pid, unix.SIGKILL)
	}
}

func write(piece *wire.File) error {
	flags := os.O_WRONLY | os.O_APPEND
	if piece.First {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
		if err := os.MkdirAll(filepath.Dir(piece.Path), 0o755); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(piece.Path, flags, os.FileMode(piece.Mode))
	if err != nil {
		return err
	}
	_, err = f.Write(piece.Data)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", piece.Path, err)
	}
	return nil
}
