// Package wire is what the host and a test's virtual machine say to each other over a
// virtio port: gob values, one after the other, both ways.
//
//	host                              guest
//	                                  ── Exit{}, ID 0       ready
//	── File{Path, Data} ────────────▶                       as often as it takes
//	── Run{Args}, ID 1 ─────────────▶
//	                                  ── Data, Stream, ID 1 as it comes
//	── Kill, ID 1 ──────────────────▶                       perhaps
//	                                  ── Exit{Code}, ID 1   always
package wire

// Port is the name of the virtio port.
const Port = "berth-test"

// Names on the kernel's command line: a disk and where it is mounted ("vdb:/work"),
// and whether systemd is PID 1.
const (
	MountKey   = "vmtest.mount="
	SystemdKey = "vmtest.systemd"
)

// Message has one of its pointers set, or Kill, or Data.
type Message struct {
	ID     int
	Run    *Run
	Kill   bool
	File   *File
	Data   []byte // output
	Stream int    // of Data: 1 or 2
	Exit   *Exit
}

// Run starts a program in a session of its own.
type Run struct {
	Args []string
	Env  []string // beside those of the guest
	Dir  string   // "": /
}

// File is a piece of a file's content. The first piece makes the file and the
// directories above it.
type File struct {
	Path  string
	Mode  uint32
	First bool
	Data  []byte
}

// Exit ends a program: its code, 128 more than the signal that killed it; or why it
// was not started.
type Exit struct {
	Code int
	Err  string
}
