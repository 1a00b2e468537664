package project

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrUnsupported: nobody counts projects there, or they are somebody else's.
var ErrUnsupported = errors.New("no project quotas")

const (
	// Of linux/fs.h and linux/quota.h, which x/sys/unix doesn't have. The numbers of ioctls are those of amd64 and arm64.
	getXattr    = 0x801c581f // FS_IOC_FSGETXATTR
	setXattr    = 0x401c5820 // FS_IOC_FSSETXATTR
	projInherit = 0x200      // FS_XFLAG_PROJINHERIT
	getQuota    = 0x800007<<8 | 2

	// Numbers are taken from here on: kubelet's for emptyDir volumes begin at 1048577, people's at 1.
	firstNumber = 1 << 30
	numbers     = 1 << 30
)

// xattr is struct fsxattr.
type xattr struct {
	flags, extentSize, extents, project, copySize uint32
	_                                             [8]byte
}

// quota is struct if_dqblk.
type quota struct {
	blocksHard, blocksSoft, bytes   uint64
	inodesHard, inodesSoft, inodes  uint64
	blocksTime, inodesTime, present uint64 // present is 32 bits and as many of padding
}

// Projects gives numbers to directories of one file system, and tells what they take. It is safe for concurrent use.
type Projects struct{ root *os.File }

// Open asks the file system of a directory whether it counts projects. ErrUnsupported: it doesn't, or the directory is in a project already, whose
// count it must not be taken out of. Close ends the use.
func Open(dir string) (*Projects, error) {
	root, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	p := &Projects{root}
	attributes, err := p.attributes(root)
	switch {
	case err != nil:
		err = fmt.Errorf("%w: %w", ErrUnsupported, err)
	case attributes.project != 0 || attributes.flags&projInherit != 0:
		err = fmt.Errorf("%w: %s is in project %d", ErrUnsupported, dir, attributes.project)
	default:
		_, err = p.quota(0)
	}
	if err != nil {
		root.Close()
		return nil, err
	}
	return p, nil
}

// Close ends the use.
func (p *Projects) Close() error { return p.root.Close() }

// Assign makes an empty directory a project of its own.
func (p *Projects) Assign(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer file.Close()
	attributes, err := p.attributes(file)
	if err != nil {
		return fmt.Errorf("assign project: %w", err)
	}
	if attributes.project, err = p.free(); err != nil {
		return err
	}
	attributes.flags |= projInherit
	if err := ioctl(file, setXattr, &attributes); err != nil {
		return fmt.Errorf("assign project %d to %s: %w", attributes.project, dir, err)
	}
	return nil
}

// free finds a number that nothing has.
func (p *Projects) free() (uint32, error) {
	for range 100 {
		number := firstNumber + rand.Uint32N(numbers)
		used, err := p.quota(number)
		if err != nil || used.inodes == 0 {
			return number, err
		}
	}
	return 0, errors.New("assign project: no number is free")
}

// Usage tells what a directory's project takes. ErrUnsupported: it has none.
func (p *Projects) Usage(dir string) (bytes, inodes uint64, err error) {
	file, err := os.Open(dir)
	if err != nil {
		return 0, 0, err
	}
	defer file.Close()
	attributes, err := p.attributes(file)
	if err != nil {
		return 0, 0, err
	}
	if attributes.project < firstNumber {
		return 0, 0, fmt.Errorf("%w: %s has no project of its own", ErrUnsupported, dir)
	}
	used, err := p.quota(attributes.project)
	return used.bytes, used.inodes, err
}

func (p *Projects) attributes(file *os.File) (xattr, error) {
	var attributes xattr
	err := ioctl(file, getXattr, &attributes)
	return attributes, err
}

func ioctl(file *os.File, request uintptr, attributes *xattr) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), request, uintptr(unsafe.Pointer(attributes)))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// quota asks for a project's count, which the kernel has in memory. One that XFS never counted is empty.
func (p *Projects) quota(number uint32) (quota, error) {
	var used quota
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, p.root.Fd(), getQuota, uintptr(number), uintptr(unsafe.Pointer(&used)), 0, 0)
	switch errno {
	case 0, unix.ENOENT:
		return used, nil
	}
	return quota{}, fmt.Errorf("%w: quotactl: %w", ErrUnsupported, errno)
}
