package erofs

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// Block is the unit of addresses: that of a tar.
	Block = 512
	// HeaderSize is what Header returns; contents begin behind it.
	HeaderSize = 4096
	// Reach is where contents and metadata must end: block addresses have 32 bits.
	Reach = Block * math.MaxUint32

	// LateSize is what is kept free for a late directory, from its Place on. Ext4 has no more room for attributes either.
	LateSize = 4096
	// Inodes are numbered in units of 32 bytes. Each begins at a multiple of 64, so that none is in two blocks.
	nidUnit    = 32
	inodeAlign = 64
)

// Plan is where everything of a file system goes. It is made by Lay.
type Plan struct {
	// UUID tells the file system from others: overlayfs finds again what a file was copied from by it, and so lets the copy keep its inode's number
	// (fs/overlayfs/super.c, ovl_lower_uuid_ok).
	UUID [16]byte

	base   int64 // where metadata begins
	inodes int64 // where the inodes begin
	size   int64
	root   *Inode
	blocks []*Inode // with contents in blocks of their own, in their order
	names  map[*Inode][]string
	order  []*Inode // by their place
}

// Lay plans the metadata of a file system behind the contents, from base on, a multiple of HeaderSize. The tree is the plan's from now on. It fails with
// ErrUnsupported.
func Lay(root *Inode, base int64) (*Plan, error) {
	p := &Plan{base: base, root: root, names: map[*Inode][]string{}}
	place := placer{Plan: p, block: base, next: inodeAlign} // inode number 0 says "no entry" to readdir(3)
	root.links = 1
	if err := place.inode(root); err != nil {
		return nil, err
	}
	for dirs := []*Inode{root}; len(dirs) > 0; dirs = dirs[1:] {
		found, err := place.dir(dirs[0])
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, found...)
	}
	p.inodes = place.block
	p.size = roundUp(p.inodes+place.next, HeaderSize)
	if p.size > Reach {
		return nil, fmt.Errorf("a file system of %d bytes: %w", p.size, ErrUnsupported)
	}
	return p, nil
}

// Size is how long the whole file is.
func (p *Plan) Size() int64 { return p.size }

// Base is where metadata begins.
func (p *Plan) Base() int64 { return p.base }

// Place is where in the file an inode of the tree is.
func (p *Plan) Place(in *Inode) int64 { return p.inodes + in.at }

// placer gives places away.
type placer struct {
	*Plan
	block int64 // the next free
	next  int64 // inode's place
}

// dir places a directory's entries, and returns those that are directories.
func (p *placer) dir(dir *Inode) (dirs []*Inode, err error) {
	names := slices.AppendSeq(make([]string, 0, len(dir.Entries)+2), maps.Keys(dir.Entries))
	for name, in := range dir.Entries {
		if len(name) > unix.NAME_MAX || in == nil {
			return nil, fmt.Errorf("name of %d bytes: %w", len(name), ErrUnsupported)
		}
		if in.IsDir() {
			dir.links++
		}
	}
	names = append(names, ".", "..")
	slices.Sort(names)
	p.names[dir] = names
	for _, name := range names {
		in := dir.Entries[name]
		if in == nil {
			continue // "." and ".."
		}
		in.links++
		if in.at > 0 {
			continue // it has another name
		}
		if err := p.inode(in); err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		if in.IsDir() {
			dirs = append(dirs, in)
		}
	}
	p.contents(dir, listingSize(names))
	return dirs, nil
}

func (p *placer) inode(in *Inode) error {
	if err := in.check(); err != nil {
		return err
	}
	if in.IsDir() {
		in.links++ // its own "."
	}
	size := int64(in.recordSize())
	if in.inlineTarget() && p.next%Block+size > Block {
		p.next = roundUp(p.next, Block)
	}
	in.at = p.next
	p.next = roundUp(p.next+size, inodeAlign)
	p.order = append(p.order, in)
	if in.kind() == unix.S_IFLNK {
		in.Size = int64(len(in.Target))
		if !in.inlineTarget() {
			p.contents(in, in.Size)
		}
	}
	return nil
}

// contents gives something blocks of its own.
func (p *placer) contents(in *Inode, size int64) {
	in.Start, in.Size = p.block, size
	p.block += roundUp(size, Block)
	p.blocks = append(p.blocks, in)
}

// listingSize is how long a directory of these names is. Entries and names of one block speak of each other only; what is left of a block is
// lost, but for the last one.
func listingSize(names []string) int64 {
	var whole, used int
	for _, name := range names {
		if used+direntSize+len(name) > Block {
			whole, used = whole+Block, 0
		}
		used += direntSize + len(name)
	}
	return int64(whole + used)
}

// listings cuts a directory's names into those of each block.
func listings(names []string) (blocks [][]string) {
	var used, first int
	for i, name := range names {
		if used+direntSize+len(name) > Block {
			blocks, first, used = append(blocks, names[first:i]), i, 0
		}
		used += direntSize + len(name)
	}
	return append(blocks, names[first:])
}

// find is the inode that a name in a directory has.
func find(dir *Inode, name string) *Inode {
	switch name {
	case ".":
		return dir
	case "..":
		if dir.Parent == nil {
			return dir
		}
		return dir.Parent
	}
	return dir.Entries[name]
}

// fileType is a directory entry's word for an inode's type (enum in fs/erofs/erofs_fs.h, those of fs_types.h).
func fileType(in *Inode) byte {
	switch in.kind() {
	case unix.S_IFREG:
		return 1
	case unix.S_IFDIR:
		return 2
	case unix.S_IFCHR:
		return 3
	case unix.S_IFBLK:
		return 4
	case unix.S_IFIFO:
		return 5
	case unix.S_IFSOCK:
		return 6
	case unix.S_IFLNK:
		return 7
	}
	return 0
}

var zeros = strings.Repeat("\x00", HeaderSize)
