package keeper

import (
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/berth-runtime/berth/oci/launch"
	"github.com/berth-runtime/berth/oci/program"
	"github.com/sirupsen/logrus"
)

// Errors that callers tell apart.
var (
	// ErrBusy: another daemon is connected to the keeper of this state directory.
	ErrBusy = errors.New("keeper serves another daemon")
	// ErrKeyInUse: a process under this key is running, or its exit was not forgotten yet.
	ErrKeyInUse = errors.New("key in use")
	// ErrUnknownKey: the keeper keeps no process under this key.
	ErrUnknownKey = errors.New("unknown key")
	// ErrInterrupted: the keeper died during the launch. Its child was killed; the caller may start anew.
	ErrInterrupted = errors.New("keeper died during the launch")
	// ErrKept: the keeper was asked to end and goes on, for it still keeps something.
	ErrKept = errors.New("keeper still keeps something")
	// ErrClosed: the Client was closed or shut down.
	ErrClosed = errors.New("keeper client is closed")
)

// Config says where a keeper lives and how it is started.
type Config struct {
	Dir      string // has keeper.sock, keeper.log and lock; made 0700 when it is missing
	Binary   string // path of berth-keeper; read once when a keeper is started, executed from a sealed memfd
	StateDir string // named on the keeper's command line, for people
	// Enter puts a freshly started keeper where it belongs (a cgroup of its own) before it is used.
	// Optional; an error is logged and tolerated.
	Enter func(pid int) error
	// Patience is how long a keeper may take to answer. One that took longer three times in a row is killed. 0: 10 s.
	Patience time.Duration
	Log      logrus.FieldLogger
}

// Launch is a program to run and what to do with the process.
type Launch struct {
	Key     string           // 1 to 255 bytes, unique while kept
	Program *program.Program //
	Files   []*os.File       // descriptors for its slots, in order; any number
	Streams []Stream         // read ends to copy into Log; up to 8
	Log     *os.File         // CRI log, opened O_APPEND|O_WRONLY by the caller, a regular file; nil: streams are read and thrown away
	MaxLine int              // bytes of a log line before it is split with tag P; 0: 16 KiB, at most 1 MiB
	Hold    map[string]*os.File
	Timed   bool // Process.Times is wanted
	Oneshot bool // the process is forgotten as soon as its exit was delivered; what Hold names stays until Forget
}

// Stream is the read end of a pipe (or a terminal's master, or a socket) that a process writes to. The
// keeper is its only reader.
type Stream struct {
	Name string // stdout or stderr: the log's second column
	File *os.File
}

// Process is a launched process.
type Process struct {
	PID   int
	PidFD *os.File      // the caller's to close
	Times *launch.Times // of a Launch with Timed; nil also when the keeper had no room, or is an older one
}

// Exit is the end of a process.
type Exit struct {
	Key    string
	Status syscall.WaitStatus
	Known  bool      // false: the process ended while no keeper was its parent, on a kernel that tells nobody how
	At     time.Time // of the reap
}

// Kept is what the keeper held under a key when the daemon connected.
type Kept struct {
	Key   string
	PID   int                 // 0: no process, descriptors only
	PidFD *os.File            // nil when there is no process
	Files map[string]*os.File // what was held, by name
	Exit  *Exit               // nil: still running
}
