package hostlocal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lineBreak  = "\r\n"
	lastPrefix = "last_reserved_ip."
	lockName   = "lock"

	// lockPoll is how often a lock that another process holds is tried again.
	lockPoll = 2 * time.Millisecond
)

// store is the folder of one network's leases.
type store struct {
	dir string

	mu     sync.Mutex              // before the flock: threads of ours don't wait in the kernel for each other
	leases map[netip.Addr]string   // who has an address
	owners map[string][]netip.Addr // and what addresses somebody has
	lasts  map[int]netip.Addr      // what was given out last of a set
	stamp  time.Time               // of the folder when all of it was right
}

func (s *store) put(addr netip.Addr, owner string) {
	s.leases[addr] = owner
	s.owners[owner] = append(s.owners[owner], addr)
}

func (s *store) drop(addr netip.Addr) {
	owner := s.leases[addr]
	delete(s.leases, addr)
	rest := slices.DeleteFunc(s.owners[owner], func(a netip.Addr) bool { return a == addr })
	if s.owners[owner] = rest; len(rest) == 0 {
		delete(s.owners, owner)
	}
}

// key is what stands in a lease.
func key(container, ifName string) string { return strings.TrimSpace(container) + lineBreak + ifName }

// locked runs fn while this process alone may change the folder.
func (s *store) locked(ctx context.Context, fn func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(s.dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }() // gives the lock up
	for {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("lock %s: %w", lock.Name(), err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("lock %s, which another process holds: %w", lock.Name(), ctx.Err())
		case <-time.After(lockPoll):
		}
	}
	if err := s.refresh(); err != nil {
		return err
	}
	err = fn()
	if info, stat := os.Stat(s.dir); stat == nil {
		s.stamp = info.ModTime()
	} else {
		s.stamp = time.Time{}
	}
	return err
}

// refresh reads the folder when it is not as we left it.
func (s *store) refresh() error {
	info, err := os.Stat(s.dir)
	if err != nil {
		return err
	}
	if s.leases != nil && info.ModTime().Equal(s.stamp) {
		return nil
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	s.leases, s.owners, s.lasts = nil, map[string][]netip.Addr{}, map[int]netip.Addr{}
	found := make(map[netip.Addr]string, len(entries))
	for _, e := range entries {
		addr, err := netip.ParseAddr(e.Name())
		if err != nil {
			continue // the lock, last_reserved_ip
		}
		data, err := os.ReadFile(filepath.Join(s.dir, e.Name()))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		found[addr] = strings.TrimSpace(string(data))
	}
	s.leases = map[netip.Addr]string{}
	for addr, owner := range found {
		s.put(addr, owner)
	}
	return nil
}

// reserve makes the lease of addr. It is false when somebody has it.
func (s *store) reserve(addr netip.Addr, owner string, set int) (bool, error) {
	if _, taken := s.leases[addr]; taken {
		return false, nil
	}
	path := filepath.Join(s.dir, addr.String())
	err := writeFile(path, unix.O_EXCL, owner)
	if errors.Is(err, os.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	s.put(addr, owner)
	if err := writeFile(filepath.Join(s.dir, lastPrefix+strconv.Itoa(set)), unix.O_TRUNC, addr.String()); err != nil {
		return false, errors.Join(err, s.release(addr))
	}
	s.lasts[set] = addr
	return true, nil
}

// writeFile is os.WriteFile with flags, by system calls: package os asks the poller of each file whether it can be waited for. A file that
// O_EXCL made does not stay when it cannot be written.
func writeFile(path string, flags int, content string) error {
	var fd int
	var err error
	for {
		if fd, err = unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC|flags, 0o600); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	n, err := unix.Write(fd, []byte(content))
	if err == nil && n < len(content) {
		err = io.ErrShortWrite
	}
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		err = &os.PathError{Op: "write", Path: path, Err: err}
		if flags&unix.O_EXCL != 0 {
			err = errors.Join(err, os.Remove(path))
		}
	}
	return err
}

func (s *store) release(addr netip.Addr) error {
	err := os.Remove(filepath.Join(s.dir, addr.String()))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	s.drop(addr)
	return nil
}

// last is the address that was given out last of a set, invalid when that is not known.
func (s *store) last(set int) netip.Addr {
	if addr, ok := s.lasts[set]; ok {
		return addr
	}
	data, err := os.ReadFile(filepath.Join(s.dir, lastPrefix+strconv.Itoa(set)))
	if err != nil {
		return netip.Addr{}
	}
	addr, _ := netip.ParseAddr(strings.TrimSpace(string(data)))
	s.lasts[set] = addr
	return addr
}

// owned lists the addresses of an attachment. Leases without an interface's name are of plugins before 0.7.
func (s *store) owned(container, ifName string) []netip.Addr {
	mine := s.owners[key(container, ifName)]
	if len(mine) == 0 {
		mine = s.owners[strings.TrimSpace(container)]
	}
	return slices.Clone(mine) // the caller releases them one by one
}
