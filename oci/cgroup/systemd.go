package cgroup

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	"github.com/coreos/go-systemd/v22/util"
	godbus "github.com/godbus/dbus/v5"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// ErrNoSystemd says that the driver systemd can't be used here.
var ErrNoSystemd = errors.New("systemd does not run here as PID 1, which the cgroup driver systemd needs")

// jobTime bounds what systemd may take for a unit: it may be busy with a node's start.
const jobTime = 30 * time.Second

// Manager is systemd, which is asked for groups below slices. Every one that is made
// is a transient scope, delegated: what is in it is berth's, and the scope's own limits
// are told to systemd too, which writes them again on a daemon-reload.
//
// A scope lives as long as it has processes, and its cgroup, with the counters in it,
// goes with the last. So who makes one gives it a process that stays until the group
// is to go.
type Manager struct {
	base    context.Context // without an end
	version int             // systemd's

	mu   sync.Mutex
	conn *dbus.Conn
}

// ConnectSystemd connects to systemd. ErrNoSystemd says that there is none.
func ConnectSystemd(ctx context.Context) (*Manager, error) {
	if !util.IsRunningSystemd() {
		return nil, ErrNoSystemd
	}
	m := &Manager{base: context.WithoutCancel(ctx)}
	conn, err := m.connection()
	if err != nil {
		return nil, err
	}
	text, err := conn.GetManagerProperty("Version") // "252.39-1~deb12u2", in quotes
	if err != nil {
		return nil, fmt.Errorf("ask systemd for its version: %w", err)
	}
	number, _, _ := strings.Cut(strings.Trim(text, `"`), ".")
	m.version, _ = strconv.Atoi(strings.TrimFunc(number, func(r rune) bool { return r < '0' || r > '9' })) // 0: an old one
	return m, nil
}

// connection is the present one, made anew when systemd or the bus was started again.
func (m *Manager) connection() (*dbus.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil && m.conn.Connected() {
		return m.conn, nil
	}
	conn, err := dbus.NewWithContext(m.base) // a connection ends with its context
	if err != nil {
		return nil, fmt.Errorf("connect to systemd: %w", err)
	}
	m.conn = conn
	return conn, nil
}

// Close ends the connection.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil {
		m.conn.Close()
		m.conn = nil
	}
}

// Scope makes the scope at a path, SLICE/NAME.scope as ContainerPath has it, with one
// process in it, and gives it limits as Create does. One that is there already gets the
// limits only, and the process stays where it is.
func (m *Manager) Scope(t *Tree, p string, r *specs.LinuxResources, pid int) (*Group, error) {
	p, err := cleanPath(p)
	if err != nil {
		return nil, err
	}
	name, slice := path.Base(p), path.Base(path.Dir(p))
	if slice == "/" {
		slice = "-.slice"
	}
	if !strings.HasSuffix(name, ".scope") || !strings.HasSuffix(slice, ".slice") {
		return nil, fmt.Errorf("%w %q: systemd has scopes below slices only", ErrInvalidPath, p)
	}
	var settings []setting
	if r != nil {
		if settings, err = t.settings(r); err != nil {
			return nil, fmt.Errorf("create scope %s: %w", name, err)
		}
	}
	if !t.Load(p).Exists() {
		if err := m.start(name, append(scopeProperties(slice, pid), properties(settings, m.version)...)); err != nil {
			return nil, fmt.Errorf("create scope %s in %s: %w", name, slice, err)
		}
	}
	g, err := t.Create(p, r)
	if err != nil {
		return nil, err
	}
	g.scope = m
	return g, nil
}

// settings are those of a new group.
func (t *Tree) settings(r *specs.LinuxResources) ([]setting, error) {
	if t.mode == V2 {
		return v2Settings(r)
	}
	return v1Settings(r, unlimited)
}

// Errors of systemd's (org.freedesktop.systemd1(5)): a unit's name is taken, and nobody has it.
const (
	unitExists = "org.freedesktop.systemd1.UnitExists"
	noSuchUnit = "org.freedesktop.systemd1.NoSuchUnit"
)

func answers(err error, name string) bool {
	var answer godbus.Error
	return errors.As(err, &answer) && answer.Name == name
}

// Gone tells systemd that the cgroup of a scope was removed: it hears of the last process's end by a notice that the
// kernel drops when the group goes at once (fs/kernfs/file.c, kernfs_notify), and would keep the unit for ever.
// A scope that systemd doesn't have is a success.
func (m *Manager) Gone(p string) error {
	ctx, cancel := context.WithTimeout(m.base, jobTime)
	defer cancel()
	name := path.Base(p)
	conn, err := m.connection()
	if err != nil {
		return err
	}
	done := make(chan string, 1)
	if _, err := conn.StopUnitContext(ctx, name, "replace", done); err != nil {
		if answers(err, noSuchUnit) {
			return nil
		}
		return fmt.Errorf("stop unit %s: %w", name, err)
	}
	select {
	case <-done: // whatever came of it: the next of that name would find out
	case <-ctx.Done():
		return fmt.Errorf("stop unit %s: %w", name, ctx.Err())
	}
	_ = conn.ResetFailedUnitContext(ctx, name) // it is kept if it failed; else this fails
	return nil
}

// start has systemd start a transient unit, and waits for it.
func (m *Manager) start(name string, properties []dbus.Property) error {
	ctx, cancel := context.WithTimeout(m.base, jobTime)
	defer cancel()
	conn, err := m.connection()
	if err != nil {
		return err
	}
	done := make(chan string, 1)
	wait := newBackoff(100 * time.Millisecond)
	for {
		_, err := conn.StartTransientUnitContext(ctx, name, "replace", properties, done)
		if err == nil {
			break
		}
		// One of that name has ended, for its cgroup is gone, and systemd doesn't know it.
		if !answers(err, unitExists) || wait.sleep(ctx) != nil {
			return fmt.Errorf("start unit: %w", err)
		}
		if err := m.Gone(name); err != nil {
			return err
		}
	}
	select {
	case result := <-done:
		if result != "done" {
			return fmt.Errorf("start unit: systemd says %q", result)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("start unit: %w", ctx.Err())
	}
}

// set tells systemd of limits that have changed, until the unit goes.
func (m *Manager) set(name string, settings []setting) error {
	changed := properties(settings, m.version)
	if len(changed) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(m.base, jobTime)
	defer cancel()
	conn, err := m.connection()
	if err != nil {
		return err
	}
	if err := conn.SetUnitPropertiesContext(ctx, name, true, changed...); err != nil {
		return fmt.Errorf("set properties of %s: %w", name, err)
	}
	// systemd writes them before it answers the next call.
	if _, err := conn.GetManagerProperty("Version"); err != nil {
		return fmt.Errorf("wait for properties of %s: %w", name, err)
	}
	return nil
}

// Managed is Load for a group that Scope made: its updates reach systemd too.
func (m *Manager) Managed(t *Tree, p string) *Group {
	g := t.Load(p)
	g.scope = m
	return g
}
