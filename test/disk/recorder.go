package disk

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Recorder is the content of a disk, and how it came to be.
type Recorder struct {
	fs.Inode

	mu     sync.Mutex
	before []byte // when recording began
	now    []byte
	events []event
}

// event is a write, or a flush when it has no data.
type event struct {
	offset int64
	data   []byte
}

// Serve serves a disk with the content of a file, as the file "disk" in the directory at, until close.
func Serve(image, at string) (r *Recorder, close func() error, err error) {
	content, err := os.ReadFile(image)
	if err != nil {
		return nil, nil, err
	}
	r = &Recorder{before: content, now: append([]byte(nil), content...)}
	root := &directory{file: r}
	server, err := fs.Mount(at, root, &fs.Options{MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "berth-test-disk"}})
	if err != nil {
		return nil, nil, fmt.Errorf("serve disk: %w", err)
	}
	return r, server.Unmount, nil
}

// directory has the one file.
type directory struct {
	fs.Inode
	file *Recorder
}

var _ fs.NodeOnAdder = (*directory)(nil)

// OnAdd fills the directory.
func (d *directory) OnAdd(ctx context.Context) {
	d.AddChild("disk", d.NewPersistentInode(ctx, d.file, fs.StableAttr{Mode: syscall.S_IFREG}), false)
}

var (
	_ fs.NodeOpener    = (*Recorder)(nil)
	_ fs.NodeGetattrer = (*Recorder)(nil)
	_ fs.NodeReader    = (*Recorder)(nil)
	_ fs.NodeWriter    = (*Recorder)(nil)
	_ fs.NodeFsyncer   = (*Recorder)(nil)
)

// Open has no state for a descriptor.
func (r *Recorder) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, 0, 0
}

// Getattr tells the size.
func (r *Recorder) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = syscall.S_IFREG|0o600, uint64(len(r.now))
	return 0
}

// Read reads what was written last.
func (r *Recorder) Read(_ context.Context, _ fs.FileHandle, dest []byte, offset int64) (fuse.ReadResult, syscall.Errno) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fuse.ReadResultData(dest[:copy(dest, r.now[min(offset, int64(len(r.now))):])]), 0
}

// Write remembers.
func (r *Recorder) Write(_ context.Context, _ fs.FileHandle, data []byte, offset int64) (uint32, syscall.Errno) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if offset+int64(len(data)) > int64(len(r.now)) {
		return 0, syscall.ENOSPC
	}
	copy(r.now[offset:], data)
	r.events = append(r.events, event{offset, append([]byte(nil), data...)})
	return uint32(len(data)), 0
}

// Fsync is a flush: what was written before it is on the disk.
func (r *Recorder) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, event{})
	return 0
}

// Moments is how many things happened so far.
func (r *Recorder) Moments() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.events)
}

// Cut gives what is on the disk when the power goes at a moment: everything up to the last flush, and of the writes after it each with
// an even chance, as a disk writes them in any order.
func (r *Recorder) Cut(moment int, chance *rand.Rand) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	content := append([]byte(nil), r.before...)
	events := r.events[:moment]
	safe := 0
	for i, e := range events {
		if e.data == nil {
			safe = i
		}
	}
	for i, e := range events {
		if i < safe || chance.IntN(2) == 0 {
			copy(content[e.offset:], e.data)
		}
	}
	return content
}
