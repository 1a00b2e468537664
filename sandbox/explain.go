package sandbox

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/oci"
	"github.com/berth-runtime/berth/sandbox/keeper"
)

// Launch programs are kept as text, for those who ask what a container got: beside the pod's files, since
// like them they end with the machine, and compressed, since that is memory. They are written beside the
// work and not on its way: of a start amid which the daemon is killed there is none.
//
//	STATE/pods/POD/programs/namespaces.gz, pause.gz, CONTAINER.gz

// The names of the programs that are the pod's own; the others are containers' ids.
const (
	namespacesProgram = "namespaces"
	pauseProgram      = "pause"
)

// launchNote says where a launch's program is kept. Nil: nowhere.
type launchNote struct {
	pod  *pod
	name string // of the file
	what string // "container web of pod default/site, image …"
}

func (m *Manager) programFile(podID, name string) string {
	return filepath.Join(m.cfg.podFiles(podID), "programs", name+".gz")
}

// keepProgram keeps the text of a program that was launched: proc is the process that came of it, err what
// became of it instead. It does not wait for that.
func (m *Manager) keepProgram(n *launchNote, l *oci.Launch, ordered time.Time, proc *keeper.Process, err error) {
	if n == nil || l.Program == nil {
		return
	}
	took := time.Since(ordered)
	program := l.Program // only read from here on, and not closed with the launch
	var outcome string
	if err == nil {
		outcome = fmt.Sprintf("process %d was at its end %v after the order", proc.PID, took.Round(time.Microsecond))
	} else {
		outcome = fmt.Sprintf("failed %v after the order: %v", took.Round(time.Microsecond), err)
	}
	n.pod.programs.Lock()
	write := func(ctx context.Context) {
		defer n.pod.programs.Unlock()
		if ctx.Err() != nil {
			return // the daemon's end
		}
		text := fmt.Sprintf("%s\nlaunched: %s; %s\n%s", n.what, ordered.Format(time.RFC3339Nano), outcome, program)
		if err := writeProgram(m.programFile(n.pod.id, n.name), text); err != nil {
			m.log.WithFields(logrus.Fields{"pod": n.pod.id, "op": "keep program " + n.name, "error": err}).Warn("launch program not kept")
		}
	}
	if !m.tasks.goes(write) { // ends with the file
		write(m.tasks.base)
	}
}

func writeProgram(path, text string) error {
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return fmt.Errorf("compress program: %w", err)
	}
	// The pod's own directory too: its namespaces are made beside its files. No removal comes between, who
	// removes it waits for the lock.
	dir := filepath.Dir(path)
	for _, d := range []struct {
		path string
		mode fs.FileMode
	}{{filepath.Dir(dir), podDirMode}, {dir, 0o700}} {
		if err := os.Mkdir(d.path, d.mode); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return os.WriteFile(path, packed.Bytes(), 0o600)
}

// dropProgram removes a container's program. It is content when there is none.
func (m *Manager) dropProgram(p *pod, name string) error {
	p.programs.Lock()
	defer p.programs.Unlock()
	if err := os.Remove(m.programFile(p.id, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove program: %w", err)
	}
	return nil
}

// readProgram returns a program's text; errors wrap fs.ErrNotExist when there is none.
func (m *Manager) readProgram(p *pod, name string) (string, error) {
	p.programs.Lock()
	defer p.programs.Unlock()
	f, err := os.Open(m.programFile(p.id, name))
	if err != nil {
		return "", err
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		return "", fmt.Errorf("read program: %w", err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return "", fmt.Errorf("read program: %w", err)
	}
	return string(text), nil
}

// ExplainContainer returns the program by which a container was started, as text, one line a step. It also
// does for one that has exited, or whose start failed; ErrState for one that has not been started.
func (m *Manager) ExplainContainer(id string) (string, error) {
	c, err := m.index.container(id)
	if err != nil {
		return "", err
	}
	text, err := m.readProgram(c.pod, c.id)
	if !errors.Is(err, fs.ErrNotExist) {
		return text, err
	}
	switch state := c.now().State; state {
	case ContainerCreated, containerStarting:
		return "", fmt.Errorf("container %s has not been started, so it has no launch program: %w", c.id, ErrState)
	default:
		return "", fmt.Errorf("container %s: its launch program was not kept: the daemon or the node ended as it was started, or it failed before it had one: %w", c.id, ErrState)
	}
}

// ExplainPod returns the programs that made a pod's namespaces, and PID 1 of a PID namespace that its
// containers share; empty for a pod that has nothing but the host's.
func (m *Manager) ExplainPod(id string) (string, error) {
	p, err := m.index.pod(id)
	if err != nil {
		return "", err
	}
	var out string
	for _, name := range []string{namespacesProgram, pauseProgram} {
		text, err := m.readProgram(p, name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return "", err
		case out == "":
			out = text
		default:
			out += "\n" + text
		}
	}
	return out, nil
}
