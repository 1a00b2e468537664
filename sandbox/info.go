package sandbox

import (
	"net/netip"
	"time"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// PodInfo is a pod at one moment. It is immutable: callers share it and must
// not write to it.
type PodInfo struct {
	ID        string // 64 hexadecimal digits
	Config    *spec.Pod
	State     PodState
	CreatedAt time.Time
	IPs       []netip.Addr // the preferred first; none on the host's network
	NetNS     string       // path of its network namespace; "" on the host's network

	Listed Memo // how it stands in a list
}

// ContainerInfo is a container at one moment. It is immutable: callers share it
// and must not write to it.
type ContainerInfo struct {
	ID         string // 64 hexadecimal digits
	PodID      string
	Config     *spec.Container
	State      ContainerState
	CreatedAt  time.Time
	StartedAt  time.Time // zero: never started
	FinishedAt time.Time // zero: not finished
	ExitCode   int32     // 128 + signal number for a signal; 128 for a failed start; 255 when nobody knows
	Reason     string    // Completed, Error, OOMKilled, StartError, Unknown; "" before the end
	Message    string

	ImageID     string // "sha256:…"
	ImageName   string // as people call it; "" when the image has no name
	ImageDigest string // "name@sha256:…"; "" when it was never pulled by digest

	LogPath    string // absolute; "": no log is kept
	User       *spec.User
	Resources  *spec.Resources // the values that the client set last
	StopSignal int
	PID        int    // of its first process; 0 unless running
	Cgroup     string // from the hierarchy's root

	Listed Memo // how it stands in a list
}

// Why a container ended, as in ContainerInfo.Reason. kubelet looks for OOMKilled.
const (
	ReasonCompleted  = "Completed"
	ReasonError      = "Error"
	ReasonOOMKilled  = "OOMKilled"
	ReasonStartError = "StartError"
	ReasonUnknown    = "Unknown"
)

// PodFilter chooses pods; what is not set matches all.
type PodFilter struct {
	ID     string // an id or its beginning
	State  *PodState
	Labels map[string]string // all of them
}

// ContainerFilter chooses containers; what is not set matches all.
type ContainerFilter struct {
	ID     string // an id or its beginning
	PodID  string // an id or its beginning
	State  *ContainerState
	Labels map[string]string // all of them
}

// ExecResult is what an exec left. Of both streams together the first 16 MiB, less
// 4 KiB, are kept.
type ExecResult struct {
	Stdout, Stderr []byte
	ExitCode       int32 // 128 + signal number for a signal
}

// Readiness is whether the node can run pods.
type Readiness struct {
	Network error // nil: pods can be attached; otherwise why not
}
