package link

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Looking anything up below /proc/sys/net gets slower with each namespace that was looked at there: the kernel keeps the entries of all
// of them under the same names, and compares them one by one (proc_sys_compare). With 500 pods a look takes half a
// millisecond. So the host's variables are not looked at for each pod (Memo), and a pod's are written through a proc file system
// that is made anew now and then (Sysctls), which starts without entries.

// Sysctl is a variable in a folder below /proc/sys, and its value.
type Sysctl struct{ Name, Value string }

// SetSysctls writes variables of one folder, "net/ipv4/conf/eth0": a path, as interfaces may have dots in their names.
func (s *Space) SetSysctls(folder string, list ...Sysctl) error {
	return s.Do(func() error { return setSysctls(unix.AT_FDCWD, "/proc/sys/"+folder, list) })
}

func setSysctls(at int, path string, list []Sysctl) error {
	dir, err := unix.Openat(at, path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open sysctls %s: %w", path, err)
	}
	defer func() { _ = unix.Close(dir) }()
	for _, v := range list {
		if err := v.write(dir); err != nil {
			return fmt.Errorf("set sysctl %s/%s=%s: %w", path, v.Name, v.Value, err)
		}
	}
	return nil
}

func (v Sysctl) write(dir int) error {
	fd, err := unix.Openat(dir, v.Name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte(v.Value))
	return errors.Join(err, unix.Close(fd))
}

// procUses is how many pods are written through one proc file system.
const procUses = 32

// Sysctls writes variables of many short-lived namespaces. It is safe for concurrent use.
type Sysctls struct {
	mu   sync.Mutex
	proc *procFS
}

// procFS is a detached proc file system. It ends when the last who uses it lets go.
type procFS struct {
	fd   int
	uses int // so far
	refs int // now, and one for being Sysctls.proc
}

// Set is SetSysctls of a space.
func (w *Sysctls) Set(s *Space, folder string, list ...Sysctl) error {
	proc := w.take()
	if proc == nil {
		return s.SetSysctls(folder, list...)
	}
	defer w.drop(proc)
	return s.Do(func() error { return setSysctls(proc.fd, "sys/"+folder, list) })
}

// Close lets go of what is open. Set may be called again.
func (w *Sysctls) Close() {
	w.mu.Lock()
	proc := w.proc
	w.proc = nil
	w.mu.Unlock()
	w.drop(proc)
}

// take returns a file system to use, nil where we may not mount one.
func (w *Sysctls) take() *procFS {
	w.mu.Lock()
	old := w.proc
	if old == nil || old.uses == procUses {
		w.proc = newProcFS()
	} else {
		old = nil
	}
	proc := w.proc
	if proc != nil {
		proc.uses++
		proc.refs++
	}
	w.mu.Unlock()
	w.drop(old)
	return proc
}

func (w *Sysctls) drop(proc *procFS) {
	if proc == nil {
		return
	}
	w.mu.Lock()
	proc.refs--
	last := proc.refs == 0
	w.mu.Unlock()
	if last {
		_ = unix.Close(proc.fd)
	}
}

// newProcFS mounts a proc file system nowhere (fsopen, Linux 5.2).
func newProcFS() *procFS {
	fs, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil
	}
	defer func() { _ = unix.Close(fs) }()
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil
	}
	return &procFS{fd: fd, refs: 1}
}

// Memo remembers for a while what was found or done on the host, so that it is not done again for each pod, and is put right again
// before long when somebody undoes it. It is safe for concurrent use.
type Memo struct {
	ttl time.Duration

	mu   sync.Mutex
	done map[string]remembered
}

type remembered struct {
	value string
	until time.Time
}

// memoSize is from how many keys on those that are too old are thrown away.
const memoSize = 64

// NewMemo remembers for ttl.
func NewMemo(ttl time.Duration) *Memo { return &Memo{ttl: ttl, done: map[string]remembered{}} }

// Do returns what fn returned for key, if that is not too long ago, and calls fn otherwise. An error is not remembered.
func (m *Memo) Do(key string, fn func() (string, error)) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, ok := m.done[key]; ok && time.Now().Before(old.until) {
		return old.value, nil
	}
	value, err := fn()
	if err != nil {
		return "", err
	}
	if len(m.done) >= memoSize {
		maps.DeleteFunc(m.done, func(_ string, old remembered) bool { return time.Now().After(old.until) })
	}
	m.done[key] = remembered{value, time.Now().Add(m.ttl)}
	return value, nil
}

// ReadSysctl reads a variable of the namespace, "" when there is none.
func (s *Space) ReadSysctl(name string) (string, error) {
	var value string
	err := s.Do(func() error {
		b, err := os.ReadFile("/proc/sys/" + name)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		value = strings.TrimSpace(string(b))
		return err
	})
	return value, err
}
