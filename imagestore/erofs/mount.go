package erofs

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/imagestore/fscontext"
)

// smallestBlock is what blocks and the data of files are aligned to in the images here.
const smallestBlock = 512

// Mount makes a detached, read-only mount of the EROFS image in a file, without a block device (Linux 6.12); the caller closes it. The file
// may be unlinked meanwhile. It needs CAP_SYS_ADMIN. ENODEV: the kernel has no EROFS; ENOTBLK: it mounts block devices only, or no files
// of that file system; EUCLEAN, EBADMSG, EINVAL: the file is no image that it can read.
func Mount(path string) (*os.File, error) {
	image, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("mount erofs: %w", err)
	}
	defer image.Close()
	mount, err := mountFile(image)
	if errors.Is(err, unix.ENOTBLK) {
		err = fmt.Errorf("%w (EROFS takes files since Linux 6.12, and those of file systems that cache pages themselves: no tmpfs, no overlay)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("mount erofs %s: %w", path, err)
	}
	return mount, nil
}

// mountFile leaves the pages of the image itself out of the page cache where it can: those of the files in it are there.
func mountFile(image *os.File) (*os.File, error) {
	if direct(image) {
		mount, err := mountWith(image, "directio")
		if !errors.Is(err, unix.EINVAL) { // the first kernels with such mounts don't know the option
			return mount, err
		}
	}
	return mountWith(image)
}

// mountWith mounts with these flags. The image is named by its descriptor: no path is too long then, nor leads elsewhere meanwhile.
func mountWith(image *os.File, flags ...string) (*os.File, error) {
	fs, err := fscontext.Open("erofs")
	if err != nil {
		return nil, err
	}
	defer fs.Close()
	if err := fs.String("source", fmt.Sprintf("/proc/self/fd/%d", image.Fd())); err != nil {
		return nil, err
	}
	for _, flag := range flags {
		if err := fs.Flag(flag); err != nil {
			return nil, err
		}
	}
	if label := labelOf(image); label != "" {
		if err := fs.String("context", label); err != nil {
			return nil, err
		}
	}
	return fs.Mount(unix.MOUNT_ATTR_RDONLY)
}

// labelOf is the SELinux label of the image, which all files in it shall have, as those in a directory inherit its own; "" where SELinux isn't active. The
// kernel asks for it beside the label of a container's root, of mprotect(2), for one.
func labelOf(image *os.File) string {
	var active unix.Statfs_t
	if err := unix.Statfs("/sys/fs/selinux", &active); err != nil || active.Type != unix.SELINUX_MAGIC {
		return ""
	}
	label := make([]byte, 4096)
	n, err := unix.Fgetxattr(int(image.Fd()), "security.selinux", label)
	if err != nil {
		return ""
	}
	return strings.TrimRight(string(label[:n]), "\x00")
}

// direct tells whether an image can be read past the page cache: whether its file system takes reads that are aligned no better than a block
// of the image is (statx(2), STATX_DIOALIGN, Linux 6.1). A disk with sectors of 4096 bytes doesn't.
func direct(image *os.File) bool {
	var st unix.Statx_t
	if err := unix.Statx(int(image.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st); err != nil {
		return false
	}
	return st.Dio_offset_align > 0 && st.Dio_offset_align <= smallestBlock
}
