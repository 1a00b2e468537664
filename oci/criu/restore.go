package criu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/checkpoint-restore/go-criu/v7/rpc"
	"google.golang.org/protobuf/proto"
)

// RestoreLog is criu's log in Restore.Work.
const RestoreLog = "restore.log"

// restoreConfig is a file of Restore.Work for what criu 3.17 has an option for, and no word in its RPC.
const restoreConfig = "restore.conf"

// Restore is a tree of processes that is made again from a dump. Established TCP connections come back closed: the address is another.
type Restore struct {
	Images string // what Dump wrote
	Work   string // a directory for criu's log
	Root   string // a mount point: the root file system
	// Mounts are those that Dump took for external, by destination: a path for each.
	Mounts map[string]string
	// Join are paths of namespaces that the tree joins in place of new ones: "ipc", "uts".
	Join map[string]string
	// Inherit are the numbers of descriptors that the command has, by the name that they have in the dump.
	Inherit map[string]int
}

// Restored is what a restore leaves: an orphan, in the cgroup and the cgroup namespace that criu ran in. All its processes are stopped (SIGSTOP).
type Restored struct {
	PID int // of its root
	// Terminal is the master of the terminal that the tree had, nil if it had none. It doesn't block.
	Terminal *os.File
}

// Restorer is a criu that restores, run by others. Its methods are for one goroutine.
type Restorer struct {
	path  string
	conn  *net.UnixConn
	end   *os.File
	files []*os.File
	done  chan struct{} // nil before Begin; closed when out and err are there
	out   Restored
	err   error
}

// NewRestorer needs a criu that works. The caller closes it.
func (t *Tool) NewRestorer(ctx context.Context) (*Restorer, error) {
	path, err := t.usable(ctx)
	if err != nil {
		return nil, err
	}
	conn, end, err := socket()
	if err != nil {
		return nil, err
	}
	return &Restorer{path: path, conn: conn, end: end}, nil
}

// Socket is what Command needs as a descriptor. It stays the Restorer's.
func (r *Restorer) Socket() *os.File { return r.end }

// Command is the command line to be executed, which has Socket as the descriptor with that number. It ends when the tree is there.
func (r *Restorer) Command(socket int) []string {
	return []string{r.path, "swrk", strconv.Itoa(socket)}
}

// Begin has the command restore once it runs. It is called once.
func (r *Restorer) Begin(in Restore) error {
	opts, err := r.options(in)
	if err != nil {
		return err
	}
	r.done = make(chan struct{})
	go func() { // ends with the conversation, at the latest by Close
		defer close(r.done)
		resp, err := talk(r.conn, &rpc.CriuReq{Type: rpc.CriuReqType_RESTORE.Enum(), Opts: opts}, r.take)
		r.out.PID, r.err = int(resp.GetRestore().GetPid()), err
	}()
	return nil
}

// take takes the terminal's master.
func (r *Restorer) take(_ string, f *os.File) error {
	if f == nil {
		return nil
	}
	if r.out.Terminal != nil {
		return errors.Join(errors.New("criu sent a second terminal"), f.Close())
	}
	r.out.Terminal = f
	return nil
}

// Result is what came of the command, which has ended. The terminal is the caller's to close.
func (r *Restorer) Result() (Restored, error) {
	r.end.Close()
	_ = r.conn.SetReadDeadline(time.Now().Add(resultTime)) // should somebody else have the other end
	<-r.done
	if r.err != nil {
		return Restored{}, r.err
	}
	out := r.out
	r.out.Terminal = nil
	return out, nil
}

// resultTime is how long criu's last word may take when it has ended.
const resultTime = 5 * time.Second

// Close ends the conversation. It may be called twice.
func (r *Restorer) Close() {
	r.end.Close()
	r.conn.Close()
	if r.done != nil {
		<-r.done
	}
	if r.out.Terminal != nil {
		r.out.Terminal.Close()
	}
	for _, f := range r.files {
		f.Close()
	}
}

func (r *Restorer) options(in Restore) (*rpc.CriuOpts, error) {
	config := filepath.Join(in.Work, restoreConfig)
	if err := os.WriteFile(config, []byte("leave-stopped\n"), 0o600); err != nil {
		return nil, fmt.Errorf("write criu's configuration: %w", err)
	}
	opts := &rpc.CriuOpts{
		Root: proto.String(in.Root), LogFile: proto.String(RestoreLog), LogLevel: proto.Int32(4), ConfigFile: proto.String(config),
		TcpClose: proto.Bool(true), FileLocks: proto.Bool(true), NotifyScripts: proto.Bool(true),
		// A terminal's master is outside of the tree: criu makes one, and sends it.
		OrphanPtsMaster: proto.Bool(true),
		ManageCgroups:   proto.Bool(true), ManageCgroupsMode: rpc.CriuCgMode_IGNORE.Enum(),
	}
	for number, dir := range map[**int32]string{&opts.ImagesDirFd: in.Images, &opts.WorkDirFd: in.Work} {
		f, err := os.Open(dir)
		if err != nil {
			return nil, fmt.Errorf("open directory for criu: %w", err)
		}
		r.files = append(r.files, f)
		*number = proto.Int32(int32(f.Fd()))
	}
	for _, destination := range slices.Sorted(maps.Keys(in.Mounts)) {
		opts.External = append(opts.External, fmt.Sprintf("mnt[%s]:%s", destination, in.Mounts[destination]))
	}
	for _, kind := range slices.Sorted(maps.Keys(in.Join)) {
		opts.JoinNs = append(opts.JoinNs, &rpc.JoinNamespace{Ns: proto.String(kind), NsFile: proto.String(in.Join[kind])})
	}
	for _, name := range slices.Sorted(maps.Keys(in.Inherit)) {
		opts.InheritFd = append(opts.InheritFd, &rpc.InheritFd{Key: proto.String(name), Fd: proto.Int32(int32(in.Inherit[name]))})
	}
	return opts, nil
}

// StandardStreams reads what the first three descriptors of a dump were; "" for one that was closed, or that the dump has itself.
func StandardStreams(images string) ([3]string, error) {
	var out [3]string
	text, err := os.ReadFile(filepath.Join(images, DescriptorsFile))
	if err != nil {
		return out, fmt.Errorf("read standard streams: %w", err)
	}
	var names []string
	if err := json.Unmarshal(text, &names); err != nil || len(names) != len(out) {
		return out, fmt.Errorf("read standard streams: %q: not three names", text)
	}
	for i, name := range names {
		if strings.HasPrefix(name, "pipe:[") || strings.HasPrefix(name, "file[") {
			out[i] = name
		}
	}
	return out, nil
}

// External reads Dump.External of a dump: none from one that another runtime made, whose Spec has all that is external.
func External(images string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(images, externalFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read external mounts: %w", err)
	}
	var names []string
	if err := json.Unmarshal(text, &names); err != nil {
		return nil, fmt.Errorf("read external mounts: %.200q: %w", text, err)
	}
	return names, nil
}
