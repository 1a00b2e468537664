package layer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/imagestore/erofs"
)

// ErrNotPacked: a good layer that has something that a packed one can't have.
var ErrNotPacked = errors.New("layer can't be packed")

// Packer makes packed layers: files that are mounted as they are (package erofs), with the layer's tar in them. It is safe for concurrent use.
type Packer struct {
	room *room
}

// NewPacker allows trees of so many bytes of memory, in all layers that are packed at once. A file of a layer takes 400 or so while the layer is
// packed; layers whose files are too many at once are not packed.
func NewPacker(memory int64) *Packer { return &Packer{newRoom(memory)} }

// Late is a directory of a packed layer that the tar had no entry for.
type Late struct {
	// Path from the layer's root; "" is the root itself.
	Path string
	// place is where in the file it is.
	place int64
	// hidden: a directory above it is opaque. opaque: it is one itself.
	hidden, opaque bool
}

// Pack reads a layer into a new file at path, which is on the disk when it returns. All else is as for Unpack. The error is ErrNotPacked for
// a layer that is whole, but has something that only Unpack can do: then the file has its tar all the same, for UnpackPacked, and Unpacked says how long it is.
func (pk *Packer) Pack(ctx context.Context, path string, open Opener, want Blob, budget *Budget, progress func()) (Unpacked, error) {
	if progress == nil {
		progress = func() {}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Unpacked{}, err
	}
	defer f.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p, err := startPipeline(ctx, open, want, budget, progress)
	if err != nil {
		return Unpacked{}, err
	}
	defer p.stages.Wait()
	defer cancel()

	x := newIndexer(budget, pk.room, progress)
	defer x.close()
	s, err := newSpool(path, p.verified, progress)
	if err != nil {
		return Unpacked{}, err
	}
	defer s.close()
	indexErr := x.index(s, func() int64 { return s.pos })
	if indexErr != nil && !errors.Is(indexErr, errNoIndex) {
		return Unpacked{}, indexErr
	}
	if indexErr != nil {
		x.close() // others may use the room while the rest of the tar comes
	}
	// What follows the tar's end (padding, an estargz table of contents) counts for the digests.
	if err := s.drain(); err != nil {
		return Unpacked{}, err
	}
	done := Unpacked{TarSize: p.tarSize.Load(), OpaqueRoot: x.opaqueRoot, Packed: true}
	plan, late, err := layPacked(x, indexErr, done.TarSize, want.DiffID)
	if errors.Is(err, ErrNotPacked) {
		budget.giveBack(x.entries, x.bytes, done.TarSize)
		return done, err
	}
	if err != nil {
		return Unpacked{}, err
	}
	if err := seal(f, plan); err != nil {
		return Unpacked{}, err
	}
	done.Late = late
	done.Bytes, done.Inodes = plan.Size(), 1
	return done, nil
}

// layPacked plans a layer's metadata behind its tar, unless err, of its index, says that there is none.
func layPacked(x *indexer, err error, tarSize int64, diffID digest.Digest) (plan *erofs.Plan, late []Late, _ error) {
	if err == nil {
		plan, err = erofs.Lay(x.root, erofs.HeaderSize+(tarSize+diskBlock-1)/diskBlock*diskBlock)
	}
	if err == nil {
		late, err = x.late(plan, "", x.root, false, nil)
	}
	if errors.Is(err, errNoIndex) || errors.Is(err, erofs.ErrUnsupported) {
		err = fmt.Errorf("%w: %w", ErrNotPacked, err)
	}
	if err != nil {
		return nil, nil, err
	}
	sum := sha256.Sum256([]byte(diffID))
	copy(plan.UUID[:], sum[:])
	return plan, late, nil
}

// seal makes a file system of a file that has its contents, and brings it to the disk.
func seal(f *os.File, plan *erofs.Plan) error {
	if _, err := plan.WriteTo(io.NewOffsetWriter(f, plan.Base())); err != nil {
		return fmt.Errorf("write metadata: %w", err)
	}
	if _, err := f.WriteAt(plan.Header(), 0); err != nil {
		return fmt.Errorf("write header: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}

// late appends the late directories of a tree, those above before those below. By links a small tar makes paths that take more memory than all else, and that
// no system call takes.
func (x *indexer) late(plan *erofs.Plan, path string, dir *erofs.Inode, hidden bool, late []Late) (_ []Late, err error) {
	if len(path) >= unix.PathMax {
		return nil, corrupt("a directory with a path of %d bytes", len(path))
	}
	opaque := hidesBelow(dir)
	if dir.Late {
		if err := x.hold(int64(len(path))); err != nil {
			return nil, err
		}
		late = append(late, Late{Path: path, place: plan.Place(dir), hidden: hidden, opaque: opaque})
	}
	for name, in := range dir.Entries {
		if !in.IsDir() {
			continue
		}
		if late, err = x.late(plan, join(path, name), in, hidden || opaque, late); err != nil {
			return nil, err
		}
	}
	return late, nil
}

// AdoptPacked is Adopt for the packed layer at path, before it is mounted. What it writes is on the disk when it returns. It may be called twice. Errors:
// ErrNotPacked when a directory takes over attributes that a packed layer can't have.
func AdoptPacked(path string, late []Late, lowers []string) error {
	if len(late) == 0 {
		return nil
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	below := make([]*sight, len(lowers))
	for i, lower := range lowers {
		below[i] = newSight(lower)
		defer below[i].close()
	}
	for _, dir := range late {
		if err := adoptLate(f, dir, below); err != nil {
			if errors.Is(err, erofs.ErrUnsupported) {
				err = fmt.Errorf("%w: %w", ErrNotPacked, err)
			}
			return fmt.Errorf("adopt directory %s: %w", quoteName(dir.Path), err)
		}
	}
	return f.Sync()
}

func adoptLate(f *os.File, dir Late, lowers []*sight) error {
	if dir.hidden {
		lowers = nil
	}
	from, err := nearest(dir.Path, lowers)
	if err != nil {
		return err
	}
	in := &erofs.Inode{Mode: unix.S_IFDIR | 0o755}
	if from >= 0 {
		defer unix.Close(from)
		if err := readMetadata(in, from); err != nil {
			return err
		}
	}
	if dir.opaque {
		hideBelow(in)
	}
	return erofs.Amend(f, dir.place, in)
}

// readMetadata gives an inode what a directory has.
func readMetadata(in *erofs.Inode, from int) error {
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return err
	}
	in.Mode, in.UID, in.GID = st.Mode, st.Uid, st.Gid
	in.Seconds, in.Nanoseconds = st.Mtim.Sec, uint32(st.Mtim.Nsec)
	names, err := xattrNames(from)
	if err != nil {
		return err
	}
	for _, name := range names {
		value, err := readXattr(from, name)
		if err != nil {
			return fmt.Errorf("read attribute %s: %w", quoteName(name), err)
		}
		in.Xattrs = append(in.Xattrs, erofs.Xattr{Name: name, Value: string(value)})
	}
	return nil
}

// UnpackPacked makes a directory of a file that Pack returned, as Unpack would of the blob: of one that is ErrNotPacked, or whole.
func UnpackPacked(ctx context.Context, path string, tarSize int64, dir string, origin io.Writer, want Blob, budget *Budget, progress func()) (Unpacked, error) {
	f, err := os.Open(path)
	if err != nil {
		return Unpacked{}, err
	}
	defer f.Close()
	want.Digest, want.Size, want.MediaType = "", tarSize, ocispec.MediaTypeImageLayer
	open := func(context.Context) (io.ReadCloser, error) { return io.NopCloser(tarOf(f, tarSize)), nil }
	return Unpack(ctx, dir, origin, open, want, budget, progress)
}

// tarOf is the tar in a packed layer.
func tarOf(f *os.File, size int64) *io.SectionReader {
	return io.NewSectionReader(f, erofs.HeaderSize, size)
}

// TarOf opens the tar that is in the packed layer at path, of that size. It isn't checked. The caller closes it.
func TarOf(path string, size int64) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{tarOf(f, size), f}, nil
}
