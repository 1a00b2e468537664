package criu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/rpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// NetworkNamespace is the name by which a dump and its restore know the network namespace, which neither makes.
const NetworkNamespace = "extRootNetNS"

// DescriptorsFile is where, among the images, runc and crun keep what the standard streams were.
const DescriptorsFile = "descriptors.json"

// externalFile is where, among the images, Dump.External stands.
const externalFile = "external.json"

// dumpLog is criu's log in Dump.Work.
const dumpLog = "dump.log"

// Dump is a tree of processes that is to be written to files, and goes on running.
type Dump struct {
	PID    int    // of its root
	Images string // an empty directory
	Work   string // a directory for dump.log and stats-dump
	// External are mounts of the host's, by destination: the restored tree gets others.
	External []string
	// Seized is called when all processes are stopped, and not yet looked at. It isn't called for a tree in the
	// host's network namespace.
	Seized func() error
	// Captured is called when the dump is complete, and the processes are still stopped.
	Captured func() error
}

// Dump dumps. It needs CAP_SYS_ADMIN, and Check to be content. On any error, also one of the callbacks, the processes go on; the
// files are of no use then. criu is never broken off amid its work; when ctx ends, it stops at the next callback.
func (t *Tool) Dump(ctx context.Context, d Dump) error {
	path, err := t.usable(ctx)
	if err != nil {
		return err
	}
	streams, err := standardStreams(d.PID)
	if err != nil {
		return err
	}
	if err := errors.Join(writeNames(d.Images, DescriptorsFile, streams), writeNames(d.Images, externalFile, d.External)); err != nil {
		return err
	}
	opts, err := d.options(streams)
	if err != nil {
		return err
	}
	images, err := os.Open(d.Images)
	if err != nil {
		return fmt.Errorf("open directory for images: %w", err)
	}
	defer images.Close()
	work, err := os.Open(d.Work)
	if err != nil {
		return fmt.Errorf("open directory for criu: %w", err)
	}
	defer work.Close()
	opts.ImagesDirFd, opts.WorkDirFd = proto.Int32(int32(images.Fd())), proto.Int32(int32(work.Fd()))
	steps := &dumpSteps{ctx: ctx, d: d}
	if err := converse(path, &rpc.CriuReq{Type: rpc.CriuReqType_DUMP.Enum(), Opts: opts}, steps.step); err != nil {
		if steps.err != nil {
			return steps.err
		}
		if explained := Explain(ErrDump, filepath.Join(d.Work, dumpLog)); explained != ErrDump {
			return explained
		}
		return fmt.Errorf("%w: %w", ErrDump, err)
	}
	return nil
}

// writeNames puts a note for the restore beside the images.
func writeNames(images, file string, names []string) error {
	text, err := json.Marshal(names)
	if err == nil {
		err = os.WriteFile(filepath.Join(images, file), text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}

func (d Dump) options(streams []string) (*rpc.CriuOpts, error) {
	opts := &rpc.CriuOpts{
		Pid: proto.Int32(int32(d.PID)), LogFile: proto.String(dumpLog), LogLevel: proto.Int32(4),
		LeaveRunning: proto.Bool(true), NotifyScripts: proto.Bool(true),
		// Nothing of these may keep a container from being dumped: it goes on with them.
		TcpEstablished: proto.Bool(true), FileLocks: proto.Bool(true),
		// A terminal's master is outside of the tree.
		OrphanPtsMaster: proto.Bool(true),
		// berth makes the cgroup.
		ManageCgroups: proto.Bool(true), ManageCgroupsMode: rpc.CriuCgMode_IGNORE.Enum(),
		NetworkLock: rpc.CriuNetworkLockMethod_NFTABLES.Enum(),
	}
	own, err := netNS("self")
	if err != nil {
		return nil, err
	}
	theirs, err := netNS(strconv.Itoa(d.PID))
	if err != nil {
		return nil, err
	}
	if own != theirs {
		opts.External = append(opts.External, fmt.Sprintf("net[%d]:%s", theirs, NetworkNamespace))
	}
	for _, destination := range d.External {
		opts.External = append(opts.External, fmt.Sprintf("mnt[%s]:%s", destination, destination))
	}
	for _, name := range streams {
		if strings.HasPrefix(name, "file[") {
			opts.External = append(opts.External, name)
		}
	}
	return opts, nil
}

func netNS(process string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/"+process+"/ns/net", &st); err != nil {
		return 0, fmt.Errorf("look at network namespace of process %s: %w", process, err)
	}
	return st.Ino, nil
}

// standardStreams are the names of a process's first three descriptors: of a pipe that which the kernel gives it, of a terminal its path, and of
// anything else criu's for a file from outside.
func standardStreams(pid int) ([]string, error) {
	var names []string
	for fd := range 3 {
		name, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
		if errors.Is(err, os.ErrNotExist) {
			names = append(names, "") // the program closed it
			continue
		}
		if err == nil && !strings.HasPrefix(name, "pipe:") && !strings.HasPrefix(name, "socket:") && !strings.HasPrefix(name, "/dev/pts/") {
			name, err = outsideFile(pid, fd)
		}
		if err != nil {
			return nil, fmt.Errorf("look at descriptor %d: %w", fd, err)
		}
		names = append(names, name)
	}
	return names, nil
}

// outsideFile is criu's name of a file that isn't in the tree's mounts; both numbers are hexadecimal. STATX_MNT_ID needs Linux 5.8.
func outsideFile(pid, fd int) (string, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, fmt.Sprintf("/proc/%d/fd/%d", pid, fd), 0, unix.STATX_INO|unix.STATX_MNT_ID, &st); err != nil {
		return "", err
	}
	if st.Mask&unix.STATX_MNT_ID == 0 {
		return "", errors.New("the kernel doesn't tell its mount")
	}
	return fmt.Sprintf("file[%x:%x]", st.Mnt_id, st.Ino), nil
}

// dumpSteps are what criu tells of while it dumps.
type dumpSteps struct {
	ctx context.Context
	d   Dump
	err error // what ended the dump
}

func (s *dumpSteps) step(name string) error {
	var call func() error
	switch name {
	case "network-lock":
		call = s.d.Seized
	case "post-dump":
		call = s.d.Captured
	default:
		return nil
	}
	if s.ctx.Err() != nil {
		s.err = fmt.Errorf("criu dump: %w", context.Cause(s.ctx))
	} else if call != nil {
		s.err = call()
	}
	return s.err
}
