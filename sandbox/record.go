package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// recordVersion is that of the records' form. Records of another version are
// cleaned like torn ones: their containers can't be understood.
const recordVersion = 1

// errRecord: a record is torn, or of a version that this daemon does not know.
var errRecord = errors.New("unreadable record")

// podRecord is what is on disk of a pod.
type podRecord struct {
	Version   int          `json:"version"`
	ID        string       `json:"id"`
	Boot      string       `json:"boot"` // boot_id of the kernel that the pod lives in
	State     PodState     `json:"state"`
	Config    *spec.Pod    `json:"config"`
	CreatedAt time.Time    `json:"createdAt"`
	IPs       []netip.Addr `json:"ips,omitempty"`
	NetNS     string       `json:"netns,omitempty"`
}

// info is what clients see of the record.
func (r *podRecord) info() *PodInfo {
	return &PodInfo{ID: r.ID, Config: r.Config, State: r.State.shown(), CreatedAt: r.CreatedAt, IPs: r.IPs, NetNS: r.NetNS}
}

// containerRecord is what is on disk of a container.
type containerRecord struct {
	Version    int             `json:"version"`
	ID         string          `json:"id"`
	PodID      string          `json:"pod"`
	Boot       string          `json:"boot"`
	State      ContainerState  `json:"state"`
	Config     *spec.Container `json:"config"`
	Image      imageRecord     `json:"image"`
	User       *spec.User      `json:"user,omitempty"`
	LogPath    string          `json:"logPath,omitempty"`
	StopSignal int             `json:"stopSignal"`
	Cgroup     string          `json:"cgroup"`
	PID        int             `json:"pid,omitempty"`
	CreatedAt  time.Time       `json:"createdAt"`
	StartedAt  time.Time       `json:"startedAt,omitzero"`
	FinishedAt time.Time       `json:"finishedAt,omitzero"`
	ExitCode   int32           `json:"exitCode,omitempty"`
	Reason     string          `json:"reason,omitempty"`
	Message    string          `json:"message,omitempty"`
}

// imageRecord is what a container remembers of its image, which may be removed
// while the container is there.
type imageRecord struct {
	ID     string              `json:"id"`
	Name   string              `json:"name,omitempty"`
	Digest string              `json:"digest,omitempty"`
	Config ocispec.ImageConfig `json:"config"`
}

// info is what clients see of the record.
func (r *containerRecord) info() *ContainerInfo {
	i := &ContainerInfo{
		ID: r.ID, PodID: r.PodID, Config: r.Config, State: r.State.shown(),
		CreatedAt: r.CreatedAt, StartedAt: r.StartedAt, FinishedAt: r.FinishedAt,
		ExitCode: r.ExitCode, Reason: r.Reason, Message: r.Message,
		ImageID: r.Image.ID, ImageName: r.Image.Name, ImageDigest: r.Image.Digest,
		LogPath: r.LogPath, User: r.User, Resources: r.Config.Resources, StopSignal: r.StopSignal, Cgroup: r.Cgroup,
	}
	if r.State == ContainerRunning {
		i.PID = r.PID
	}
	return i
}

// MarshalText writes the state's name, which unlike its number never changes.
func (s PodState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (s *PodState) UnmarshalText(text []byte) (err error) {
	*s, err = byName(podStateNames, string(text))
	return err
}

// MarshalText writes the state's name, which unlike its number never changes.
func (s ContainerState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (s *ContainerState) UnmarshalText(text []byte) (err error) {
	*s, err = byName(containerStateNames, string(text))
	return err
}

func byName[K comparable](names map[K]string, text string) (K, error) {
	for k, n := range names {
		if n == text {
			return k, nil
		}
	}
	var zero K
	return zero, fmt.Errorf("unknown state %q: %w", text, errRecord)
}

// records is the directory of all records.
type records struct {
	dir string // ROOT/pods
	// replace makes a file's content be data, at once or not at all; remove takes
	// away a file or directory. Tests put in what dies at a chosen moment.
	replace func(path string, data []byte) error
	remove  func(path string) error
}

func newRecords(root string) *records {
	return &records{dir: filepath.Join(root, "pods"), replace: replaceFile, remove: os.RemoveAll}
}

// podDir is the directory of all that is on disk of a pod.
func (r *records) podDir(podID string) string { return filepath.Join(r.dir, podID) }

func (r *records) podPath(podID string) string { return filepath.Join(r.dir, podID, "pod.json") }

func (r *records) containerPath(podID, id string) string {
	return filepath.Join(r.dir, podID, "containers", id+".json")
}

// putPod replaces a pod's record.
func (r *records) putPod(rec *podRecord) error {
	return r.put("pod", r.podPath(rec.ID), rec)
}

// putContainer replaces a container's record.
func (r *records) putContainer(rec *containerRecord) error {
	return r.put("container", r.containerPath(rec.PodID, rec.ID), rec)
}

func (r *records) put(kind, path string, rec any) error {
	data, err := json.Marshal(rec)
	if err == nil {
		err = r.replace(path, data)
	}
	if err != nil {
		return fmt.Errorf("write %s record: %w", kind, err)
	}
	return nil
}

// recordMode keeps others out: a container's environment holds secrets.
const recordMode = 0o600

// replaceFile writes beside path and renames: readers, and a daemon after a
// crash, see the old content or the new. There is no fsync: the start of a pod
// would wait for the disk, and after a power loss its processes are gone too.
//
// The first content goes into place at once, which takes half the time: when that
// is torn, nothing came of it, and it is cleaned.
func replaceFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, recordMode)
	if err == nil {
		_, err = f.Write(data)
		return errors.Join(err, f.Close())
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	tmp := path + besideRecord
	if err := overwrite(tmp, data); err != nil {
		return err
	}
	// ext4 writes a file's data out when it is renamed over another (auto_da_alloc, ext4(5)): 0.15 ms
	// for a promise that records don't make. An exchange is as atomic, and a fifth of that; the old
	// content stays beside the new one, for the next replacement to overwrite: making and deleting an
	// inode each time costs as much again.
	err = unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, path, unix.RENAME_EXCHANGE)
	if err != nil { // a file system that can't, or a recovery that took path away
		return os.Rename(tmp, path)
	}
	return nil
}

// besideRecord names the file that the next content of a record is written to.
const besideRecord = ".new"

// overwrite gives a file new content in place. It is cut to its length after the
// write: cut to nothing before, ext4 would write it out at the close.
func overwrite(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, recordMode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Truncate(int64(len(data)))
	}
	return errors.Join(err, f.Close())
}

// makePod makes the directories of a pod.
func (r *records) makePod(podID string) error {
	for _, dir := range []string{r.podDir(podID), filepath.Join(r.podDir(podID), "containers")} {
		if err := os.Mkdir(dir, 0o711); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make pod directory: %w", err)
		}
	}
	return nil
}

// removePod removes all that is on disk of a pod.
func (r *records) removePod(podID string) error {
	if err := r.remove(r.podDir(podID)); err != nil {
		return fmt.Errorf("remove pod directory: %w", err)
	}
	return nil
}

// removeContainer removes a container's record.
func (r *records) removeContainer(podID, id string) error {
	path := r.containerPath(podID, id)
	if err := os.Remove(path + besideRecord); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove container record: %w", err)
	}
	if err := r.remove(path); err != nil {
		return fmt.Errorf("remove container record: %w", err)
	}
	return nil
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

// podIDs lists the pods that have a directory.
func (r *records) podIDs() ([]string, error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// load reads all that is on disk of a pod. What can't be read is reported as
// such, with its id; errors are of the disk itself.
func (r *records) load(podID string) (*savedPod, error) {
	out := &savedPod{id: podID}
	data, err := os.ReadFile(r.podPath(podID))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read pod record: %w", err)
	}
	if rec, err := parsePod(data); err == nil && rec.ID == podID {
		out.record = rec
	}
	dir := filepath.Join(r.podDir(podID), "containers")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue // what the next content is written to
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read container record: %w", err)
		}
		saved := savedContainer{id: id}
		if rec, err := parseContainer(data); err == nil && rec.ID == id && rec.PodID == podID {
			saved.record = rec
		}
		out.containers = append(out.containers, saved)
	}
	return out, nil
}

// parsePod reads a pod's record; errors wrap errRecord.
func parsePod(data []byte) (*podRecord, error) {
	rec := &podRecord{}
	if err := json.Unmarshal(data, rec); err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	if rec.Version != recordVersion || rec.Config == nil || rec.State == 0 {
		return nil, fmt.Errorf("%w: version %d", errRecord, rec.Version)
	}
	return rec, nil
}

// parseContainer reads a container's record; errors wrap errRecord.
func parseContainer(data []byte) (*containerRecord, error) {
	rec := &containerRecord{}
	if err := json.Unmarshal(data, rec); err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	if rec.Version != recordVersion || rec.Config == nil || rec.State == ContainerUnknown {
		return nil, fmt.Errorf("%w: version %d", errRecord, rec.Version)
	}
	return rec, nil
}
