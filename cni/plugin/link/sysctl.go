package link

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Looking anything up below /proc/sys/net gets slower with each namespace that was looked at: the kernel keeps the entries of all of
// them under the same names (proc_sys_compare). So a pod's variables are written through one open folder, and the host's are not
// looked at for each pod.

// Sysctl is a variable in a folder below /proc/sys, and its value.
type Sysctl struct{ Name, Value string }

// SetSysctls writes variables of one folder, "net/ipv4/conf/eth0": a path, as interfaces may have dots in their names.
func (s *Space) SetSysctls(folder string, list ...Sysctl) error {
	return s.Do(func() error { return setSysctls(folder, list) })
}

func setSysctls(folder string, list []Sysctl) error {
	dir, err := unix.Open("/proc/sys/"+folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open sysctls %s: %w", folder, err)
	}
	defer func() { _ = unix.Close(dir) }()
	for _, v := range list {
		if err := v.write(dir); err != nil {
			return fmt.Errorf("set sysctl %s/%s=%s: %w", folder, v.Name, v.Value, err)
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
