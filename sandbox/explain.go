package sandbox

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/berth-runtime/berth/oci"
	"github.com/berth-runtime/berth/oci/launch"
	"github.com/berth-runtime/berth/sandbox/keeper"
)

// Launch programs are kept for those who ask what a container got, with the timelines that led there: beside the
// pod's files, since like them they end with the machine, as text, and compressed, since that is memory. A pod's start
// doesn't pay for that: until a program is a second old, or nothing is set up any more, it is only remembered, and one
// that is dropped before is never written. Of a launch in the last second of a daemon there is none.
//
//	STATE/pods/POD/programs/namespaces.gz, pause.gz, run.gz (the pod's timeline), CONTAINER.gz
//
// Each is a line of JSON, keptHead, and the program's text.

// keptPrograms keeps the programs of all pods.
type keptPrograms struct {
	*base
	queue   programQueue
	packers sync.Pool // of *gzip.Writer: each has a megabyte, and while pods start there is a program to write every few milliseconds
}

// keepAfter is how old a program is when it is written at the latest. One that waits has some 70 KB.
const keepAfter = time.Second

// programs are the programs of a pod that are not written yet.
type programs struct {
	sync.Mutex // held also while files are written, read and removed
	fresh      map[string]*freshProgram
}

// keptHead is what is kept beside a program's text.
type keptHead struct {
	What     string               `json:"what,omitempty"` // "container web of pod default/site, image …"
	Launched string               `json:"launched,omitempty"`
	Times    map[string][]Moment  `json:"times,omitempty"` // timelines by what was done: create, start, run
	Began    map[string]time.Time `json:"began,omitempty"` // each of them; an older daemon kept none
}

// keptProgram is what is kept of one launch.
type keptProgram struct {
	keptHead
	text string // of the program
}

// explained is all of it for people.
func (k keptProgram) explained() string {
	var out string
	if k.What != "" {
		out = fmt.Sprintf("%s\nlaunched: %s\n", k.What, k.Launched)
	}
	for _, what := range slices.Sorted(maps.Keys(k.Times)) {
		out += timelineText(what, k.Times[what])
	}
	return out + k.text
}

// freshProgram is a program as it was launched.
type freshProgram struct {
	note     *launchNote
	launched string
	launch   timedLaunch // none: a timeline alone
}

func (f *freshProgram) kept() keptProgram {
	k := keptProgram{keptHead: keptHead{What: f.note.what, Launched: f.launched, Times: map[string][]Moment{}, Began: map[string]time.Time{}}}
	for what, w := range f.note.watches {
		if t := w.timeline(); len(t) > 0 {
			k.Times[what], k.Began[what] = t, w.at
		}
	}
	if f.launch.program == nil {
		return k
	}
	since := f.launch.ordered
	if f.note.watch != nil {
		since = f.note.watch.began
	}
	k.text = f.launch.text(since)
	return k
}

// The names of what is the pod's own; the others are containers' ids.
const (
	namespacesProgram = "namespaces"
	pauseProgram      = "pause"
	runTimeline       = "run"
)

// launchNote says where a launch's program is kept. Nil: nowhere.
type launchNote struct {
	pod     *pod
	name    string                // of the file
	what    string                // keptHead.What
	watch   *stopwatch            // notes the launch; nil: none does
	watches map[string]*stopwatch // whose timelines are kept with the program
}

func (kp *keptPrograms) programFile(podID, name string) string {
	return filepath.Join(kp.cfg.podFiles(podID), "programs", name+".gz")
}

// keepProgram keeps the text of a program that was launched, see launched. It does not wait for that.
func (kp *keptPrograms) keepProgram(n *launchNote, l *oci.Launch, ordered int64, proc *keeper.Process, err error) {
	kp.keep(launched(n, l, ordered, proc, err))
}

// launched is the program of a launch that has ended just now: proc is the process that came of it, err what became
// of it instead. ordered is launch.Now of the order. Nil when n is, or when there was no program.
func launched(n *launchNote, l *oci.Launch, ordered int64, proc *keeper.Process, err error) *freshProgram {
	if n == nil || l.Program == nil {
		return nil
	}
	timed := timedLaunch{program: l.Program, ordered: ordered, done: launch.Now()}
	took := time.Duration(timed.done - ordered).Round(time.Microsecond)
	when := time.Now().Add(-took).Format(time.RFC3339Nano) + "; "
	if err == nil {
		timed.times = proc.Times
		when += fmt.Sprintf("process %d was at its end %v after the order", proc.PID, took)
	} else {
		when += fmt.Sprintf("failed %v after the order: %v", took, err)
	}
	n.watch.launched(timed)
	return &freshProgram{note: n, launched: when, launch: timed}
}

// keep remembers something that is to be written soon; nil is nothing.
func (kp *keptPrograms) keep(fresh *freshProgram) {
	if fresh == nil {
		return
	}
	n := fresh.note
	n.pod.programs.Lock()
	if n.pod.programs.fresh == nil {
		n.pod.programs.fresh = map[string]*freshProgram{}
	}
	n.pod.programs.fresh[n.name] = fresh
	n.pod.programs.Unlock()
	if kp.queue.put(fresh) {
		kp.tasks.goes(kp.tendPrograms) // ends with the queue, or when Close begins
	}
}

// writeFresh writes a program, unless it was dropped, or another came in its place.
func (kp *keptPrograms) writeFresh(p *pod, name string, fresh *freshProgram, w *gzip.Writer) error {
	p.programs.Lock()
	defer p.programs.Unlock()
	if p.programs.fresh[name] != fresh {
		return nil
	}
	delete(p.programs.fresh, name)
	return writeProgram(kp.programFile(p.id, name), fresh.kept(), w)
}

// packer gives what writeProgram compresses with, to be put back.
func (kp *keptPrograms) packer() *gzip.Writer {
	if w, ok := kp.packers.Get().(*gzip.Writer); ok {
		return w
	}
	w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is no level
	}
	return w
}

func writeProgram(path string, k keptProgram, w *gzip.Writer) error {
	var packed bytes.Buffer
	w.Reset(&packed)
	err := json.NewEncoder(w).Encode(k.keptHead)
	if err == nil {
		_, err = io.WriteString(w, k.text)
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
func (kp *keptPrograms) dropProgram(p *pod, name string) error {
	p.programs.Lock()
	defer p.programs.Unlock()
	delete(p.programs.fresh, name)
	if err := os.Remove(kp.programFile(p.id, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove program: %w", err)
	}
	return nil
}

// readProgram returns what was kept of a launch; errors wrap fs.ErrNotExist when there is none.
func (kp *keptPrograms) readProgram(p *pod, name string) (keptProgram, error) {
	p.programs.Lock()
	defer p.programs.Unlock()
	if fresh := p.programs.fresh[name]; fresh != nil {
		return fresh.kept(), nil
	}
	f, err := os.Open(kp.programFile(p.id, name))
	if err != nil {
		return keptProgram{}, err
	}
	defer f.Close()
	k, err := unpackProgram(f)
	if err != nil {
		return keptProgram{}, fmt.Errorf("read program: %w", err)
	}
	return k, nil
}

func unpackProgram(f io.Reader) (k keptProgram, err error) {
	r, err := gzip.NewReader(f)
	if err != nil {
		return k, err
	}
	all, err := io.ReadAll(r)
	if err != nil {
		return k, err
	}
	head, text, _ := bytes.Cut(all, []byte("\n"))
	if !bytes.HasPrefix(head, []byte("{")) { // of a daemon that kept the text alone
		k.text = string(all)
		return k, nil
	}
	k.text = string(text)
	return k, json.Unmarshal(head, &k.keptHead)
}

// ExplainContainer returns the program by which a container was started, as text, one line a step. It also
// does for one that has exited, or whose start failed; ErrState for one that has not been started.
func (kp *keptPrograms) ExplainContainer(id string) (string, error) {
	c, err := kp.index.container(id)
	if err != nil {
		return "", err
	}
	kept, err := kp.readProgram(c.pod, c.id)
	if !errors.Is(err, fs.ErrNotExist) {
		return kept.explained(), err
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
	for _, name := range []string{runTimeline, namespacesProgram, pauseProgram} {
		kept, err := kp.readProgram(p, name)
		text := kept.explained()
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
