package imagestore

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// topDirFlag is FS_TOPDIR_FL (ioctl_iflags(2)): chattr +T.
const topDirFlag = 0x00020000

// spread asks ext4 to place the directories made in dir far from each other (FS_TOPDIR_FL), each with room for what will be below it. Otherwise
// they go to the same few block groups, also after images were deleted from those; ext4 doesn't give inodes out again for up to six minutes
// after they were deleted, and every file that is made searches past all of these: on a node that had just deleted images, pulling one of
// 20,000 files took four times the processor time, and mounting a container's overlay, which makes seven, took 2 ms instead of 0.3. File systems without such a flag have no need of it.
func spread(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	var flags uint
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.FS_IOC_GETFLAGS, uintptr(unsafe.Pointer(&flags))); errno != 0 || flags&topDirFlag != 0 {
		return nil
	}
	flags |= topDirFlag
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.FS_IOC_SETFLAGS, uintptr(unsafe.Pointer(&flags)))
	return nil
}
