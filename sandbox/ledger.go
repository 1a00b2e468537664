package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// records is the directory of all records: a ledger each pod, named by its id.
//
// A ledger has a line for each record of the pod or of one of its containers, as it
// became; the last one of each counts:
//
//	pod POD {…}
//	container CONTAINER {…}
//	removed CONTAINER
//
// Lines are added by one write(2) each, so a killed daemon leaves the earlier
// record or the new one. There is no fsync: the start of a pod would wait for the
// disk, and after a power loss its processes are gone too. A line that is torn then
// is passed over.
//
// One file a pod that only grows is what a file system does fastest: ext4 looks at
// all recently deleted inodes before it makes one (recently_deleted(), fs/ext4/ialloc.c),
// and writes a file's data out when it is renamed over another (auto_da_alloc, ext4(5)).
type records struct {
	dir string // ROOT/pods
	// write appends to a file, and is where tests put in what dies at a chosen
	// moment; so is remove, which takes away a file or directory.
	write  func(path string, line []byte) (size int64, err error)
	remove func(path string) error
	read   func(path string) ([]byte, error) // for a start; tests put in a disk that fails

	mu      sync.Mutex
	ledgers map[string]*ledger // by pod; of those that were written to
}

// ledger is what is known of a file while the daemon runs.
type ledger struct {
	mu   sync.Mutex
	next int64 // the size from which on it is rewritten
	torn bool  // its last line has no end: it is rewritten before the next line
}

// ledgerSize is how large a ledger becomes, in bytes, before lines that count no
// more are taken out.
const ledgerSize = 256 << 10

// recordMode keeps others out: a container's environment holds secrets.
const recordMode = 0o600

// The words that lines begin with.
const (
	linePod       = "pod"
	lineContainer = "container"
	lineRemoved   = "removed"
)

// besideLedger ends the name of the file that a ledger is rewritten in.
const besideLedger = ".new"

func newRecords(root string) *records {
	return &records{dir: filepath.Join(root, "pods"), write: appendTo, remove: os.RemoveAll, read: os.ReadFile, ledgers: map[string]*ledger{}}
}

func (r *records) path(podID string) string { return filepath.Join(r.dir, podID) }

// putPod records a pod as it now is.
func (r *records) putPod(rec *podRecord) error {
	if err := r.put(rec.ID, linePod, rec.ID, rec); err != nil {
		return fmt.Errorf("write pod record: %w", err)
	}
	return nil
}

// putContainer records a container as it now is.
func (r *records) putContainer(rec *containerRecord) error {
	if err := r.put(rec.PodID, lineContainer, rec.ID, rec); err != nil {
		return fmt.Errorf("write container record: %w", err)
	}
	return nil
}

// removeContainer takes a container out of its pod's ledger. It may be called again.
func (r *records) removeContainer(podID, id string) error {
	if _, err := os.Stat(r.path(podID)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := r.put(podID, lineRemoved, id, nil); err != nil {
		return fmt.Errorf("remove container record: %w", err)
	}
	return nil
}

// removePod removes a pod's ledger. It may be called again.
func (r *records) removePod(podID string) error {
	l := r.ledger(podID)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := r.remove(r.path(podID)); err != nil {
		return fmt.Errorf("remove pod record: %w", err)
	}
	r.mu.Lock()
	delete(r.ledgers, podID)
	r.mu.Unlock()
	return nil
}

func (r *records) ledger(podID string) *ledger {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.ledgers[podID]
	if l == nil {
		l = &ledger{next: ledgerSize}
		r.ledgers[podID] = l
	}
	return l
}

// put adds a line, and rewrites a ledger that has become long.
func (r *records) put(podID, word, id string, rec any) error {
	line := []byte(word + " " + id)
	if rec != nil {
		data, err := json.Marshal(rec)
		if err != nil {
			return err
		}
		line = append(append(line, ' '), data...)
	}
	l := r.ledger(podID)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.torn {
		if _, err := r.rewrite(podID); err != nil {
			return err
		}
		l.torn = false
	}
	size, err := r.write(r.path(podID), append(line, '\n'))
	if err != nil {
		l.torn = true // a full disk may have taken half of it
		return err
	}
	if size >= l.next {
		// What fails here is tried again later: the record itself is written.
		if kept, err := r.rewrite(podID); err == nil {
			size = kept
		}
		l.next = size + ledgerSize
	}
	return nil
}

// appendTo adds to a file, which it makes if there is none, and returns how large it is then.
func appendTo(path string, line []byte) (size int64, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, recordMode)
	if err != nil {
		return 0, err
	}
	_, err = f.Write(line)
	if err == nil {
		size, err = f.Seek(0, 1)
	}
	return size, errors.Join(err, f.Close())
}

// rewrite makes a ledger of the lines that count, and returns its size.
func (r *records) rewrite(podID string) (size int64, err error) {
	path := r.path(podID)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var out bytes.Buffer
	lines, _ := lastLines(data)
	for _, l := range lines {
		fmt.Fprintf(&out, "%s %s %s\n", l.word, l.id, l.record)
	}
	if err := os.WriteFile(path+besideLedger, out.Bytes(), recordMode); err != nil {
		return 0, errors.Join(err, os.Remove(path+besideLedger))
	}
	return int64(out.Len()), os.Rename(path+besideLedger, path)
}

// line is one of a ledger.
type line struct {
	word, id string
	record   []byte // JSON
}

// lastLines are the lines that count, the pod's first, then its containers' by age.
// torn says that the last line has no end. What is no line is passed over.
func lastLines(data []byte) (lines []line, torn bool) {
	at := map[string]int{} // where in lines a container is
	lines = make([]line, 1)
	for len(data) > 0 {
		one, rest, whole := bytes.Cut(data, []byte("\n"))
		data, torn = rest, !whole
		word, tail, _ := bytes.Cut(one, []byte(" "))
		id, record, _ := bytes.Cut(tail, []byte(" "))
		l := line{word: string(word), id: string(id), record: record}
		switch i, known := at[l.id]; {
		case torn || l.id == "":
		case l.word == linePod:
			lines[0] = l
		case l.word == lineContainer && known:
			lines[i] = l
		case l.word == lineContainer:
			at[l.id] = len(lines)
			lines = append(lines, l)
		case l.word == lineRemoved && known:
			lines[i].word = lineRemoved
			delete(at, l.id)
		}
	}
	kept := lines[:0]
	for _, l := range lines {
		if l.word == linePod || l.word == lineContainer {
			kept = append(kept, l)
		}
	}
	return kept, torn
}

// savedPod is what is on disk of a pod, as found at start.
type savedPod struct {
	id         string
	record     *podRecord // nil: torn
	containers []savedContainer
}

// savedContainer is what is on disk of a container, as found at start.
type savedContainer struct {
	id     string
	record *containerRecord // nil: torn
}

// podIDs lists the pods that have a ledger. It takes away what a killed daemon was
// rewriting.
func (r *records) podIDs() ([]string, error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	var out []string
	for _, e := range entries {
		switch {
		case !e.Type().IsRegular():
		case strings.HasSuffix(e.Name(), besideLedger):
			if err := os.Remove(filepath.Join(r.dir, e.Name())); err != nil {
				return nil, fmt.Errorf("list pods: %w", err)
			}
		default:
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// load reads all that is on disk of a pod. What can't be read is reported as
// such, with its id; errors are of the disk itself.
func (r *records) load(podID string) (*savedPod, error) {
	out := &savedPod{id: podID}
	data, err := r.read(r.path(podID))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read pod record: %w", err)
	}
	lines, torn := lastLines(data)
	l := r.ledger(podID)
	l.mu.Lock()
	l.torn, l.next = torn, int64(len(data))+ledgerSize
	l.mu.Unlock()
	for _, l := range lines {
		if l.word == linePod {
			if rec, err := parsePod(l.record); err == nil && rec.ID == podID {
				out.record = rec
			}
			continue
		}
		saved := savedContainer{id: l.id}
		if rec, err := parseContainer(l.record); err == nil && rec.ID == l.id && rec.PodID == podID {
			saved.record = rec
		}
		out.containers = append(out.containers, saved)
	}
	return out, nil
}
