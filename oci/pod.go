package oci

import (
	"errors"
	"fmt"
	"os"

	"github.com/berth-runtime/berth/oci/cgroup"
	"github.com/berth-runtime/berth/oci/program"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Pod is what PreparePod needs.
type Pod struct {
	Namespaces []specs.LinuxNamespaceType // new ones: of network, ipc, uts, user
	Hostname   string                     // of a new uts namespace; empty: as the host
	Sysctls    map[string]string          // of the new namespaces; keys with dots, or with slashes
	UIDs, GIDs []specs.LinuxIDMapping     // of a new user namespace
	Socket     *os.File                   // the child's end of a unix socket pair; the caller's to close
}

// PreparePod compiles the program that makes a pod's namespaces. Once it has run, ReceiveNamespaces on
// the other end of Socket gets their descriptors, in the order of Namespaces.
func (n *Node) PreparePod(in Pod) (*Launch, error) {
	bag := newBag()
	bag.lend("socket", in.Socket)
	return bag.launch(program.CompilePod(program.Pod{
		Namespaces: in.Namespaces, Hostname: in.Hostname, Sysctls: in.Sysctls,
		UIDMap: program.IDMap(in.UIDs), GIDMap: program.IDMap(in.GIDs),
	}))
}

// SocketPair returns the two ends for PreparePod and ReceiveNamespaces.
func SocketPair() (parent, child *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "namespaces"), os.NewFile(uintptr(fds[1]), "namespaces (child)"), nil
}

// ReceiveNamespaces reads the descriptors that PreparePod's program sent. The child's end must be closed
// here before, so that a program that ended early is an error and no endless wait. The caller closes
// the files.
func ReceiveNamespaces(socket *os.File, kinds []specs.LinuxNamespaceType) (map[specs.LinuxNamespaceType]*os.File, error) {
	if len(kinds) == 0 {
		return nil, nil
	}
	control := make([]byte, unix.CmsgSpace(4*len(kinds)))
	var text [16]byte
	var n, oobn int
	var err error
	for {
		n, oobn, _, _, err = unix.Recvmsg(int(socket.Fd()), text[:], control, unix.MSG_CMSG_CLOEXEC)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err == nil && n == 0 {
		err = errors.New("the program sent nothing")
	}
	if err != nil {
		return nil, fmt.Errorf("receive namespaces: %w", err)
	}
	var fds []int
	msgs, err := unix.ParseSocketControlMessage(control[:oobn])
	if err == nil && len(msgs) == 1 {
		fds, err = unix.ParseUnixRights(&msgs[0])
	}
	if err == nil && len(fds) != len(kinds) {
		err = fmt.Errorf("%d descriptors for %d kinds", len(fds), len(kinds))
	}
	if err != nil {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return nil, fmt.Errorf("receive namespaces: %w", err)
	}
	out := make(map[specs.LinuxNamespaceType]*os.File, len(kinds))
	for i, k := range kinds {
		out[k] = os.NewFile(uintptr(fds[i]), string(k)+" namespace")
	}
	return out, nil
}

// Pause is what PreparePause needs. All files stay the caller's.
type Pause struct {
	Namespaces map[specs.LinuxNamespaceType]*os.File // the pod's
	Binary     *os.File                              // berth-keeper, sealed, whose pause mode is run
	Cgroup     *cgroup.Group
	IDs        uint32 // how many users and groups, from 0 on, the pod's user namespace has; 0: no such namespace
}

// pauseUser is nobody's id: above those that distributions give, and the last of kubelet's mappings.
const pauseUser = 65535

// PreparePause compiles the program of PID 1 of a pod whose containers share their PID namespace.
func (n *Node) PreparePause(in Pause) (*Launch, error) {
	bag := newBag()
	bag.lend("binary", in.Binary)
	p := program.Pause{LastCap: n.lastCap, User: pauseUser}
	if in.IDs > 0 {
		p.User = min(pauseUser, in.IDs-1)
	}
	err := func() (err error) {
		if err = bag.stdio(nil, nil, nil); err != nil {
			return err
		}
		for kind, f := range in.Namespaces {
			p.Join = append(p.Join, kind)
			bag.lend(program.NamespaceSlot(kind), f)
		}
		p.CgroupFiles, p.CgroupDir, err = bag.cgroup(in.Cgroup)
		return err
	}()
	if err != nil {
		return bag.launch(nil, err)
	}
	return bag.launch(program.CompilePause(p))
}
