package sandbox

import (
	"context"
	"io"
	"net/netip"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/cni"
	"github.com/berth-runtime/berth/imagestore"
	"github.com/berth-runtime/berth/oci"
	"github.com/berth-runtime/berth/oci/cgroup"
	"github.com/berth-runtime/berth/sandbox/keeper"
)

// Parts are the rooms that a Manager composes. All are needed, but where it says otherwise.
type Parts struct {
	Network  Network
	Images   Images
	Keeper   Keeper
	Programs Programs
	Cgroups  *cgroup.Tree
	Systemd  *cgroup.Manager // with the cgroup driver systemd
	Plugins  Plugins         // nil: none
	CRIU     CRIU
	Rested   func() // called once nothing has been set up for a second; nil: nobody asks
	Log      logrus.FieldLogger
}

// Network attaches pods (*cni.Network).
type Network interface {
	Add(ctx context.Context, a cni.Attachment) (*cni.Result, error) // undoes itself on an error
	Reserve(a cni.Attachment) error                                 // its ports, for a pod on the host's network
	Del(ctx context.Context, a cni.Attachment) error                // idempotent, also when the namespace is gone
	GC(ctx context.Context, valid []string) error
	Status() error
	SetPodCIDRs(cidrs []netip.Prefix) error
}

// Images gives root file systems (*imagestore.Store).
type Images interface {
	Image(ref string) (*imagestore.Image, error)
	// ExpectSnapshot says that one will be prepared soon.
	ExpectSnapshot() error
	// These three may be repeated.
	PrepareSnapshot(ctx context.Context, key, imageID string) error
	PrepareMapped(ctx context.Context, key, imageID string, ids imagestore.IDMap) error // for a user namespace
	PrepareView(ctx context.Context, key, imageID string) error                         // read-only
	// What these mount is detached.
	MountSnapshot(key, label string) (*os.File, error)
	MountMapped(key string, users *os.File, label string) (*os.File, error) // in a user namespace
	CheckMapping(users *os.File) error                                      // whether MountMapped can be
	// WriteChanges writes what a container changed as a layer, which ApplyChanges puts into a fresh snapshot.
	WriteChanges(ctx context.Context, key string, w io.Writer) error
	ApplyChanges(ctx context.Context, key, path string) error
	CopyVolume(key string, number int, root *os.File, path string) error
	VolumePath(key string, number int) string
	RemoveSnapshot(key string) error // idempotent
	Snapshots() ([]string, error)
	SnapshotUsage(key string) (imagestore.SnapshotUsage, error) // waits for nothing
	Mountpoint() string
}

// Keeper is the parent of all processes (*keeper.Client).
type Keeper interface {
	Launch(ctx context.Context, l keeper.Launch) (*keeper.Process, error)
	Wait(ctx context.Context, key string) (keeper.Exit, error)
	Exits() <-chan keeper.Exit
	Kept() []keeper.Kept
	Adopt(ctx context.Context, l keeper.Launch, p *keeper.Process) error
	Hold(ctx context.Context, key string, files map[string]*os.File) error
	Forget(ctx context.Context, key string) error // idempotent
	Reopen(ctx context.Context, key string, log *os.File) error
	// Attach copies a stream into a pipe from a position on, 0: now; keeper.ErrUnknownKey: it has ended.
	Attach(ctx context.Context, key, stream string, position int64) (pipe *os.File, at int64, err error)
}

// Programs compiles launch programs (*oci.Node).
type Programs interface {
	PreparePod(in oci.Pod) (*oci.Launch, error)
	PreparePause(in oci.Pause) (*oci.Launch, error)
	PrepareContainer(in oci.Container) (*oci.Launch, error)
	PrepareExec(in oci.Exec) (*oci.Launch, error)
	PrepareCommand(in oci.Command) (*oci.Launch, error)
	Clamp(p *specs.Process) *specs.Process // to what the node grants
}
