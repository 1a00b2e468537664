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
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/oci"
	"github.com/berth-runtime/berth/sandbox/keeper"
)

// Launch programs are kept for those who ask what a container got: beside the pod's files, since like them they
// end with the machine, as text, and compressed, since that is memory. A pod's start doesn't pay for that: until a
// program is some seconds old it is only remembered, and one that is dropped before is never written. Of a launch
// in the last seconds of a daemon there is none.
//
//	STATE/pods/POD/programs/namespaces.gz, pause.gz, CONTAINER.gz

// keptPrograms keeps the programs of all pods.
type keptPrograms struct{ *base }

// keepAfter is how old a program is when it is written.
const keepAfter = 3 * time.Second

// programs are the programs of a pod that are not written yet.
type programs struct {
	sync.Mutex // held also while files are written, read and removed
	fresh      map[string]*freshProgram
}

// freshProgram is a program as it was launched.
type freshProgram struct {
	head    string
	program fmt.Stringer // *program.Program, which nobody changes any more
}

func (f *freshProgram) text() string { return f.head + f.program.String() }

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

func (kp *keptPrograms) programFile(podID, name string) string {
	return filepath.Join(kp.cfg.podFiles(podID), "programs", name+".gz")
}

// keepProgram keeps the text of a program that was launched: proc is the process that came of it, err what
// became of it instead. It does not wait for that.
func (kp *keptPrograms) keepProgram(n *launchNote, l *oci.Launch, ordered time.Time, proc *keeper.Process, err error) {
	if n == nil || l.Program == nil {
		return
	}
	took := time.Since(ordered)
	var outcome string
	if err == nil {
		outcome = fmt.Sprintf("process %d was at its end %v after the order", proc.PID, took.Round(time.Microsecond))
	} else {
		outcome = fmt.Sprintf("failed %v after the order: %v", took.Round(time.Microsecond), err)
	}
	fresh := &freshProgram{fmt.Sprintf("%s\nlaunched: %s; %s\n", n.what, ordered.Format(time.RFC3339Nano), outcome), l.Program}
	n.pod.programs.Lock()
	if n.pod.programs.fresh == nil {
		n.pod.programs.fresh = map[string]*freshProgram{}
	}
	n.pod.programs.fresh[n.name] = fresh
	n.pod.programs.Unlock()
	kp.tasks.goes(func(context.Context) { // ends with the file, at the latest keepAfter from now
		select {
		case <-time.After(keepAfter):
		case <-kp.closing.Done():
			return
		}
		if err := kp.writeFresh(n.pod, n.name, fresh); err != nil {
			kp.log.WithFields(logrus.Fields{"pod": n.pod.id, "op": "keep program " + n.name, "error": err}).Warn("launch program not kept")
		}
	})
}

// writeFresh writes a program, unless it was dropped, or another came in its place.
func (kp *keptPrograms) writeFresh(p *pod, name string, fresh *freshProgram) error {
	p.programs.Lock()
	defer p.programs.Unlock()
	if p.programs.fresh[name] != fresh {
		return nil
	}
	delete(p.programs.fresh, name)
	return writeProgram(kp.programFile(p.id, name), fresh.text())
}

// packers are writers that were used before: a new one takes a megabyte.
var packers = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is no level
	}
	return w
}}

func writeProgram(path, text string) error {
	var packed bytes.Buffer
	w := packers.Get().(*gzip.Writer)
	defer packers.Put(w)
	w.Reset(&packed)
	_, err := io.WriteString(w, text)
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
func (kp *keptPrograms) dropProgram(p *pod, name string) error {
	p.programs.Lock()
	defer p.programs.Unlock()
	delete(p.programs.fresh, name)
	if err := os.Remove(kp.programFile(p.id, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove program: %w", err)
	}
	return nil
}

// readProgram returns a program's text; errors wrap fs.ErrNotExist when there is none.
func (kp *keptPrograms) readProgram(p *pod, name string) (string, error) {
	p.programs.Lock()
	defer p.programs.Unlock()
	if fresh := p.programs.fresh[name]; fresh != nil {
		return fresh.text(), nil
	}
	f, err := os.Open(kp.programFile(p.id, name))
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
func (kp *keptPrograms) ExplainContainer(id string) (string, error) {
	c, err := kp.index.container(id)
	if err != nil {
		return "", err
	}
	text, err := kp.readProgram(c.pod, c.id)
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
func (kp *keptPrograms) ExplainPod(id string) (string, error) {
	p, err := kp.index.pod(id)
	if err != nil {
		return "", err
	}
	var out string
	for _, name := range []string{namespacesProgram, pauseProgram} {
		text, err := kp.readProgram(p, name)
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
