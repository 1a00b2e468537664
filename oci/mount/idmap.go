package mount

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/oci/program"
)

// mapped are the file systems that pods' volumes are on, by statfs(2)'s numbers, with the kernel that began to
// idmap them (mount_setattr(2), "idmapped mounts"; the later ones by their FS_ALLOW_IDMAP). "": none does yet.
var mapped = map[int64]struct{ name, since string }{
	unix.EXT4_SUPER_MAGIC: {"ext4", "5.12"}, unix.XFS_SUPER_MAGIC: {"xfs", "5.12"}, unix.MSDOS_SUPER_MAGIC: {"vfat", "5.12"},
	unix.BTRFS_SUPER_MAGIC: {"btrfs", "5.15"}, unix.F2FS_SUPER_MAGIC: {"f2fs", "5.18"}, unix.EROFS_SUPER_MAGIC_V1: {"erofs", "5.19"},
	unix.SQUASHFS_MAGIC: {"squashfs", "6.2"}, unix.TMPFS_MAGIC: {"tmpfs", "6.3"}, unix.CEPH_SUPER_MAGIC: {"ceph", "6.7"},
	unix.OVERLAYFS_SUPER_MAGIC: {"overlayfs", ""}, unix.NFS_SUPER_MAGIC: {"nfs", ""}, unix.FUSE_SUPER_MAGIC: {"fuse", "6.12, if its server allows it"},
	unix.PROC_SUPER_MAGIC: {"proc", ""}, unix.SYSFS_MAGIC: {"sysfs", ""}, unix.HUGETLBFS_MAGIC: {"hugetlbfs", "6.9"}, unix.V9FS_MAGIC: {"9p", ""},
}

// Mapped returns a detached copy of the mount at a path of the host, with the mapping of a user namespace. Errors
// name the source, and why it can't be mapped. The caller closes the file.
func Mapped(source string, users *os.File) (*os.File, error) {
	f, _, err := Bind(source, program.MountOptions{}, users)
	return f, err
}

// noMapping says why a mount refuses a user namespace's mapping.
func noMapping(fd int) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return fmt.Errorf("it can't be idmapped")
	}
	fs, known := mapped[int64(uint32(st.Type))]
	switch {
	case !known:
		return fmt.Errorf("its file system (type %#x) can't be idmapped on this kernel", uint32(st.Type))
	case fs.since == "":
		return fmt.Errorf("its file system, %s, can't be idmapped", fs.name)
	default:
		return fmt.Errorf("its file system, %s, can't be idmapped on this kernel (since Linux %s)", fs.name, fs.since)
	}
}
