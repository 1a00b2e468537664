package program

import (
	"encoding/binary"
	"path"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A program stops at a gate until it is let on, so that hooks can be run at that point of a container's
// life: by others, for the process itself is a copy of its launcher and can but make system calls. It says
// the gate's name over slot "gate" (GateSlot, a SOCK_SEQPACKET socket) and waits for one byte. When the
// other end closes instead, or dies, the program fails with ECANCELED.
const (
	// GateCreate is where everything is mounted, and the container's root is not yet the process's.
	GateCreate = "create"
	// GateStart is where only the user's credentials are wanting.
	GateStart = "start"
	// SayListener is no gate: it comes with the descriptor of a seccomp filter's listener, and nobody answers.
	SayListener = "listener"

	// GateSlot is the name of the slot.
	GateSlot = "gate"
)

// gates says at which gates a container's program stops, for these hooks.
func gates(h *specs.Hooks) (create, start bool) {
	if h == nil {
		return false, false
	}
	//lint:ignore SA1019 deprecated, and still what most hooks are
	create = len(h.Prestart)+len(h.CreateRuntime)+len(h.CreateContainer) > 0
	return create, len(h.StartContainer) > 0
}

// Stops says whether the program stops on its way, or hands something over: then it needs slot "gate".
func (in Container) Stops() bool {
	create, start := gates(in.Spec.Hooks)
	return create || start || in.Seccomp != nil && in.Seccomp.Notify
}

func (b gateSteps) gate(name string) {
	b.labelf("wait for the hooks of %s", name)
	b.call(unix.SYS_SENDTO, b.fd(GateSlot), b.str(name), num(int64(len(name))), flags(unix.MSG_NOSIGNAL, "MSG_NOSIGNAL"))
	r := b.reg()
	b.call(unix.SYS_READ, b.fd(GateSlot), data(b.memory(8), "answer"), num(1)).into(r)
	b.call(CallRequire, r.arg(), num(1), flags(uint64(unix.ECANCELED), "ECANCELED"))
	b.free = append(b.free, r)
}

// attachRoot mounts the container's root where hooks that run before pivot_root find it: at a directory
// of the host, in the container's mount namespace alone.
func (b rootSteps) attachRoot(dir string) {
	b.labelf("mount the root file system on %s", dir)
	if !path.IsAbs(dir) {
		b.fail("bundle %q: not absolute", dir)
	}
	b.call(unix.SYS_MOUNT, num(0), b.str("/"), num(0), flags(unix.MS_REC|unix.MS_SLAVE, "MS_REC|MS_SLAVE"))
	b.call(unix.SYS_MOVE_MOUNT, b.fd(rootSlot), b.str(""), cwd(), b.str(dir), flags(unix.MOVE_MOUNT_F_EMPTY_PATH, "F_EMPTY_PATH"))
}

// message is a struct msghdr in a program's data (sendmsg(2)): a text, and descriptors by SCM_RIGHTS
// (unix(7)), which steps store at the places in fds.
type message struct {
	at  uint32
	fds []uint32
}

func (b gateSteps) message(text string, descriptors int) message {
	control := b.memory(unix.CmsgSpace(4 * descriptors))
	m := message{}
	for i := range descriptors {
		m.fds = append(m.fds, control+uint32(unix.CmsgLen(0)+4*i))
	}
	le := binary.LittleEndian
	le.PutUint64(b.p.Data[control:], uint64(unix.CmsgLen(4*descriptors)))
	le.PutUint32(b.p.Data[control+8:], unix.SOL_SOCKET)
	le.PutUint32(b.p.Data[control+12:], unix.SCM_RIGHTS)
	content := b.constant(text, 1)
	iov := b.memory(16)
	b.pointer(iov, content)
	le.PutUint64(b.p.Data[iov+8:], uint64(len(text)))
	m.at = b.memory(56) // name, namelen, iov, iovlen, control, controllen, flags
	b.pointer(m.at+16, iov)
	le.PutUint64(b.p.Data[m.at+24:], 1)
	b.pointer(m.at+32, control)
	le.PutUint64(b.p.Data[m.at+40:], uint64(unix.CmsgSpace(4*descriptors)))
	return m
}

// send sends a message over the socket in a slot.
func (b gateSteps) send(slot string, m message, text string) {
	b.call(unix.SYS_SENDMSG, b.fd(slot), data(m.at, text), flags(unix.MSG_NOSIGNAL, "MSG_NOSIGNAL"))
}
