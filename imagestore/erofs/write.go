package erofs

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"golang.org/x/sys/unix"
)

const (
	superOffset = 1024
	superMagic  = 0xE0F5E1E2
	// featureChecksum: the superblock's checksum is to be believed. featureTimes: each inode has its own time.
	featureChecksum, featureTimes = 1, 2
	blockBits                     = 9
	// The layouts of contents: blocks of their own, or behind the inode. Both inodes are of the extended kind.
	layoutPlain, layoutInline = 0<<1 | 1, 2<<1 | 1
)

var little = binary.LittleEndian

// Header is the beginning of the file, HeaderSize bytes: without it the rest means nothing.
func (p *Plan) Header() []byte {
	header := make([]byte, HeaderSize)
	super := header[superOffset:]
	little.PutUint32(super[0:], superMagic)
	little.PutUint32(super[8:], featureChecksum|featureTimes)
	super[12] = blockBits
	little.PutUint16(super[14:], uint16(p.root.at/nidUnit))
	little.PutUint64(super[16:], uint64(len(p.order)))
	little.PutUint32(super[36:], uint32(p.size/Block))
	little.PutUint32(super[40:], uint32(p.inodes/Block))
	copy(super[48:64], p.UUID[:])
	// The kernel's crc32c has no last inversion. It covers a block, from the superblock on.
	little.PutUint32(super[4:], ^crc32.Checksum(super[:Block], crc32.MakeTable(crc32.Castagnoli)))
	return header
}

// WriteTo writes the metadata: what is in the file from Base to Size. It may be called any number of times.
func (p *Plan) WriteTo(w io.Writer) (int64, error) {
	out := &stream{w: bufio.NewWriterSize(w, 64<<10), at: p.base}
	for _, in := range p.blocks {
		out.padTo(in.Start)
		if in.IsDir() {
			p.writeListing(out, in)
		} else {
			out.WriteString(in.Target)
		}
	}
	for i, in := range p.order {
		out.padTo(p.Place(in))
		out.Write(p.record(in, uint32(i+1)))
	}
	out.padTo(p.size)
	return out.at - p.base, errors.Join(out.err, out.w.Flush())
}

// stream knows where in the file it is.
type stream struct {
	w   *bufio.Writer
	at  int64
	err error
}

func (s *stream) Write(b []byte) {
	n, err := s.w.Write(b)
	s.at += int64(n)
	if s.err == nil {
		s.err = err
	}
}

func (s *stream) WriteString(text string) { s.Write([]byte(text)) }

func (s *stream) padTo(at int64) {
	for s.err == nil && s.at < at {
		s.WriteString(zeros[:min(at-s.at, HeaderSize)])
	}
}

// writeListing writes a directory's blocks: entries, and then their names.
func (p *Plan) writeListing(out *stream, dir *Inode) {
	start := out.at
	for i, names := range listings(p.names[dir]) {
		out.padTo(start + int64(i)*Block)
		at := len(names) * direntSize
		entry := make([]byte, direntSize)
		for _, name := range names {
			in := find(dir, name)
			little.PutUint64(entry[0:], uint64(in.at/nidUnit))
			little.PutUint16(entry[8:], uint16(at))
			entry[10] = fileType(in)
			out.Write(entry)
			at += len(name)
		}
		for _, name := range names {
			out.WriteString(name)
		}
	}
}

// record is an inode with all that stands behind it, but for what is kept free.
func (p *Plan) record(in *Inode, number uint32) []byte {
	raw := make([]byte, inodeSize, inodeSize+in.xattrSize()+len(in.Target))
	little.PutUint64(raw[8:], uint64(in.Size))
	little.PutUint32(raw[20:], number)
	little.PutUint32(raw[44:], in.links)
	layout := uint16(layoutPlain)
	switch {
	case in.kind() == unix.S_IFCHR || in.kind() == unix.S_IFBLK:
		little.PutUint32(raw[16:], deviceNumber(in.Rdev))
	case in.inlineTarget():
		layout = layoutInline
	default:
		little.PutUint32(raw[16:], uint32(in.Start/Block))
	}
	little.PutUint16(raw[0:], layout)
	raw = putAttributes(raw, in)
	if layout == layoutInline {
		raw = append(raw, in.Target...)
	}
	return raw
}

// putAttributes fills in what Amend may change of an inode's record, and appends extended attributes.
func putAttributes(raw []byte, in *Inode) []byte {
	little.PutUint16(raw[4:], uint16(in.Mode))
	little.PutUint32(raw[24:], in.UID)
	little.PutUint32(raw[28:], in.GID)
	little.PutUint64(raw[32:], uint64(in.Seconds))
	little.PutUint32(raw[40:], in.Nanoseconds)
	if len(in.Xattrs) == 0 {
		little.PutUint16(raw[2:], 0)
		return raw
	}
	little.PutUint16(raw[2:], uint16((in.xattrSize()-xattrHeaderSize)/4+1))
	raw = append(raw, zeros[:xattrHeaderSize]...)
	for _, x := range in.Xattrs {
		index, rest, _ := splitXattr(x.Name)
		raw = append(raw, byte(len(rest)), index)
		raw = little.AppendUint16(raw, uint16(len(x.Value)))
		raw = append(append(raw, rest...), x.Value...)
		raw = append(raw, zeros[:roundUp(len(raw), 4)-len(raw)]...)
	}
	return raw
}

// deviceNumber is the kernel's 32 bits of a device's number (new_encode_dev of kdev_t.h).
func deviceNumber(rdev uint64) uint32 {
	major, minor := unix.Major(rdev), unix.Minor(rdev)
	return minor&0xff | major<<8 | (minor&^0xff)<<12
}

// File is what Amend reads and writes.
type File interface {
	io.ReaderAt
	io.WriterAt
}

// Amendable are the parts of a late directory, each from and to so many bytes from its Place on, that Amend changes: all of it, but for where its
// entries are, its number and its links.
func Amendable() [][2]int64 { return [][2]int64{{2, 6}, {24, 44}, {inodeSize, LateSize}} }

// Amend gives a late directory, which is at that place of the file, the mode, owner, time and extended attributes of in. It may be called again, before
// the file is mounted. More attributes than there is room for are ErrUnsupported.
func Amend(f File, place int64, in *Inode) error {
	if err := in.check(); err != nil {
		return err
	}
	if in.recordSize() > LateSize {
		return fmt.Errorf("attributes of %d bytes: %w", in.xattrSize(), ErrUnsupported)
	}
	raw := make([]byte, inodeSize, LateSize)
	if _, err := f.ReadAt(raw, place); err != nil {
		return fmt.Errorf("read inode: %w", err)
	}
	raw = putAttributes(raw, in)
	if _, err := f.WriteAt(raw, place); err != nil {
		return fmt.Errorf("write inode: %w", err)
	}
	return nil
}
