package sandbox

import (
	"errors"
	"fmt"

	"github.com/berth-runtime/berth/cni"
	"github.com/berth-runtime/berth/oci/cgroup"
	"github.com/berth-runtime/berth/oci/criu"
)

// What callers can tell apart with errors.Is. A configuration that breaks a rule
// is a *spec.FieldError.
var (
	// ErrNotFound: no pod or container has this id, or one that begins so.
	ErrNotFound = errors.New("not found")
	// ErrAmbiguous: several pods or containers have an id that begins so.
	ErrAmbiguous = errors.New("ambiguous id")
	// ErrState: the pod's or container's state does not allow the call.
	ErrState = errors.New("wrong state")
	// ErrExists: another pod, or container of the pod, has this name and attempt.
	ErrExists = errors.New("it exists already")
	// ErrImageVolume: an image can't be mounted as a volume.
	ErrImageVolume = errors.New("mount image volume")
	// ErrHostPort: another pod has a port of the host that this one wants.
	ErrHostPort = errors.New("host port conflict")
	// ErrNetwork: pods can't be attached to the network now; Ready says why.
	ErrNetwork = errors.New("no network")
	// ErrTimeout: an exec did not end in the time it was given, and was killed.
	ErrTimeout = errors.New("timed out")
	// ErrCommand: the container has no such program, or the kernel can't execute it.
	ErrCommand = errors.New("command can't be executed")
	// ErrPath: a mount's or the working directory's path isn't fit for it in the container's root file system.
	ErrPath = errors.New("the container's root file system doesn't fit")
	// ErrLogPath: something else is where a log or its directory is to be.
	ErrLogPath = errors.New("no log can be there")
	// ErrBusy: the container has as many execs as it may have.
	ErrBusy = errors.New("too many execs at once")
	// ErrPanicked: the work met a fault of berth's. What it is stands in the log.
	ErrPanicked = errors.New("internal error, see the log of berth")
	// ErrBehind: an attached client was so slow that output for it is not kept any more.
	ErrBehind = errors.New("client does not keep up with the container's output")
	// ErrClosed: the manager is closing. The call may be repeated with the next daemon.
	ErrClosed = errors.New("runtime is closing")
)

// What the rooms below say that a client can cause, by a name of this room.
var (
	// ErrBelowUsage: a memory limit would be below what is in use.
	ErrBelowUsage = cgroup.ErrBelowUsage
	// ErrInvalidLimit: the kernel refuses a limit's value.
	ErrInvalidLimit = cgroup.ErrInvalidLimit
	// ErrNoCheckpoint: the node has no criu that works.
	ErrNoCheckpoint = criu.ErrUnusable
	// ErrDump: a container has what criu can't dump.
	ErrDump = criu.ErrDump
	// ErrCgroupPath: no cgroup can have this path.
	ErrCgroupPath = cgroup.ErrInvalidPath
	// ErrStillOccupied: processes are left in a cgroup that is to be removed.
	ErrStillOccupied = cgroup.ErrStillOccupied
	// ErrAttachment: the network can't be asked for this.
	ErrAttachment = cni.ErrInvalid
	// ErrPortTaken: another pod has the host port.
	ErrPortTaken = cni.ErrPortTaken
	// ErrNetworkNotReady: there is no network configuration yet.
	ErrNetworkNotReady = cni.ErrNotReady
)

func notFound(kind, id string) error { return fmt.Errorf("%s %q: %w", kind, id, ErrNotFound) }

// stateError says why a call is refused; the caller says which.
func stateError(kind, id string, state fmt.Stringer) error {
	return fmt.Errorf("%s %s is %s: %w", kind, id, state, ErrState)
}
