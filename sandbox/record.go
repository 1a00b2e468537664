package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-runtime/berth/oci/selinux"
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
	// SELinux has the labels of its containers, as far as they ask for no others.
	SELinux *selinux.Labels `json:"selinux,omitempty"`
}

func (r *podRecord) labels() selinux.Labels {
	if r.SELinux == nil {
		return selinux.Labels{}
	}
	return *r.SELinux
}

// info is what clients see of the record.
func (r *podRecord) info() *PodInfo {
	return &PodInfo{ID: r.ID, Config: r.Config, State: r.State.shown(), CreatedAt: r.CreatedAt, IPs: r.IPs, NetNS: r.NetNS}
}

// containerRecord is what is on disk of a container.
type containerRecord struct {
	Version int             `json:"version"`
	ID      string          `json:"id"`
	PodID   string          `json:"pod"`
	Boot    string          `json:"boot"`
	State   ContainerState  `json:"state"`
	Config  *spec.Container `json:"config"`
	Image   imageRecord     `json:"image"`
	// Seccomp is a profile of the client's, whose file may be gone or changed by the time of an exec.
	Seccomp    *specs.LinuxSeccomp `json:"seccomp,omitempty"`
	Edits      *specs.Spec         `json:"edits,omitempty"`      // what its CDI devices add, as the node's files had it when it was made
	Adjustment json.RawMessage     `json:"adjustment,omitempty"` // what plugins changed of it when it was made
	User       *spec.User          `json:"user,omitempty"`
	Restore    *restoreRecord      `json:"restore,omitempty"` // nil: its image says how it starts
	LogPath    string              `json:"logPath,omitempty"`
	StopSignal int                 `json:"stopSignal"`
	Cgroup     string              `json:"cgroup"`
	PID        int                 `json:"pid,omitempty"`
	CreatedAt  time.Time           `json:"createdAt"`
	StartedAt  time.Time           `json:"startedAt,omitzero"`
	FinishedAt time.Time           `json:"finishedAt,omitzero"`
	ExitCode   int32               `json:"exitCode,omitempty"`
	Reason     string              `json:"reason,omitempty"`
	Message    string              `json:"message,omitempty"`
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
