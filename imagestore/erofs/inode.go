package erofs

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrUnsupported: EROFS has no way to say it.
var ErrUnsupported = errors.New("not to be had in EROFS")

// Inode is a file of any type, with all its names pointing to it. What Lay finds out of it is not exported.
type Inode struct {
	// Mode is type and permissions, as st_mode of stat(2).
	Mode     uint32
	UID, GID uint32
	// Seconds and Nanoseconds are when it was last modified, since 1970. EROFS keeps one time of each file.
	Seconds     int64
	Nanoseconds uint32
	// Rdev is the number of a device, as st_rdev.
	Rdev uint64
	// Size and Start are how long a regular file is and where in the file system's file it begins: a multiple of Block.
	Size, Start int64
	// Target is what a symlink says.
	Target string
	Xattrs []Xattr
	// Entries are a directory's, without "." and "..". Parent is where it is; nil for the root.
	Entries map[string]*Inode
	Parent  *Inode
	// Late: mode, owner, time and extended attributes of this directory come later, by Amend.
	Late bool

	links uint32
	at    int64 // of the inode, from the first inode's place on; 0: it has none yet
}

// Xattr is an extended attribute (xattr(7)), by its whole name.
type Xattr struct{ Name, Value string }

// IsDir tells whether it is a directory.
func (in *Inode) IsDir() bool { return in.kind() == unix.S_IFDIR }

// IsWhiteout: "a whiteout is created as a character device with 0/0 device number" (filesystems/overlayfs.rst).
func (in *Inode) IsWhiteout() bool { return in.kind() == unix.S_IFCHR && in.Rdev == 0 }

func (in *Inode) kind() uint32 { return in.Mode & unix.S_IFMT }

// xattrSpaces are the namespaces that EROFS has numbers for. A name is stored without the beginning that its number says.
var xattrSpaces = []struct {
	index  byte
	prefix string
}{{1, "user."}, {4, "trusted."}, {6, "security."}}

// Holds tells whether an attribute of that name can be kept. POSIX ACLs could, but the kernel must check one before it
// believes it.
func Holds(name string) bool {
	_, _, held := splitXattr(name)
	return held
}

func splitXattr(name string) (index byte, rest string, held bool) {
	for _, space := range xattrSpaces {
		if rest, found := strings.CutPrefix(name, space.prefix); found {
			return space.index, rest, rest != ""
		}
	}
	return 0, "", false
}

// The sizes of fs/erofs/erofs_fs.h.
const (
	inodeSize       = 64 // struct erofs_inode_extended
	xattrHeaderSize = 12 // struct erofs_xattr_ibody_header
	xattrEntrySize  = 4  // struct erofs_xattr_entry
	direntSize      = 12 // struct erofs_dirent
)

// longestXattr is how long an attribute's name may be for Linux (XATTR_NAME_MAX of limits.h). A longer one is listed, and can't be asked for.
const longestXattr = 255

// check refuses what the format has no room for.
func (in *Inode) check() error {
	for _, x := range in.Xattrs {
		_, rest, held := splitXattr(x.Name)
		if !held || len(rest) > math.MaxUint8 || len(x.Name) > longestXattr || len(x.Value) > math.MaxUint16 {
			return fmt.Errorf("attribute %q of %d bytes: %w", x.Name, len(x.Value), ErrUnsupported)
		}
	}
	if in.xattrSize() > xattrHeaderSize+4*(math.MaxUint16-1) || in.Late && inodeSize+in.xattrSize() > LateSize {
		return fmt.Errorf("attributes of %d bytes: %w", in.xattrSize(), ErrUnsupported)
	}
	return nil
}

// xattrSize is what its attributes take behind the inode.
func (in *Inode) xattrSize() int {
	if len(in.Xattrs) == 0 {
		return 0
	}
	size := xattrHeaderSize
	for _, x := range in.Xattrs {
		_, rest, _ := splitXattr(x.Name)
		size += roundUp(xattrEntrySize+len(rest)+len(x.Value), 4)
	}
	return size
}

// inlineTarget tells whether a symlink's target stands behind its inode: all of it must be in one block (fs/erofs/inode.c, erofs_fill_symlink).
func (in *Inode) inlineTarget() bool {
	return in.kind() == unix.S_IFLNK && inodeSize+in.xattrSize()+len(in.Target) <= Block
}

// recordSize is what the inode takes with all that stands behind it.
func (in *Inode) recordSize() int {
	switch {
	case in.Late:
		return LateSize
	case in.inlineTarget():
		return inodeSize + in.xattrSize() + len(in.Target)
	}
	return inodeSize + in.xattrSize()
}

func roundUp[T int | int64](n, unit T) T { return (n + unit - 1) / unit * unit }
