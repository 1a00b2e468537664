package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	paxXattr = "SCHILY.xattr."
	permBits = 0o7777
)

// checkOwner: the kernel takes the id -1 as "don't change" (chown(2)).
func checkOwner(hdr *tar.Header) error {
	if hdr.Uid < 0 || hdr.Gid < 0 || hdr.Uid >= math.MaxUint32 || hdr.Gid >= math.MaxUint32 {
		return corrupt("owner %d:%d", hdr.Uid, hdr.Gid)
	}
	return nil
}

// setOpenMetadata is for a file or directory that this process, being root, has just made: its owner is root already.
func setOpenMetadata(fd int, hdr *tar.Header) error {
	if err := checkOwner(hdr); err != nil {
		return err
	}
	if hdr.Uid != 0 || hdr.Gid != 0 {
		if err := unix.Fchown(fd, hdr.Uid, hdr.Gid); err != nil {
			return fmt.Errorf("change owner: %w", err)
		}
	}
	// After the owner: changing that clears security.capability, set-user-ID and set-group-ID (chown(2)).
	err := eachXattr(hdr, func(name string, value []byte) error { return unix.Fsetxattr(fd, name, value, 0) })
	if err != nil {
		return err
	}
	if err := unix.Fchmod(fd, uint32(hdr.Mode)&permBits); err != nil {
		return fmt.Errorf("change mode: %w", err)
	}
	return setTimes(fd, hdr)
}

// setMetadata is for a symlink, device or pipe, which can't be opened.
func setMetadata(dir int, base string, hdr *tar.Header) error {
	if err := checkOwner(hdr); err != nil {
		return err
	}
	if err := unix.Fchownat(dir, base, hdr.Uid, hdr.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("change owner: %w", err)
	}
	at := entryPath(dir, base)
	err := eachXattr(hdr, func(name string, value []byte) error {
		err := unix.Lsetxattr(at, name, value, 0)
		if err == unix.EPERM && strings.HasPrefix(name, "user.") {
			return nil // only files and directories have these (xattr(7))
		}
		return err
	})
	if err != nil {
		return err
	}
	if hdr.Typeflag != tar.TypeSymlink { // whose mode is always 0777
		if err := unix.Fchmodat(dir, base, uint32(hdr.Mode)&permBits, 0); err != nil {
			return fmt.Errorf("change mode: %w", err)
		}
	}
	times := timesOf(hdr)
	if err := unix.UtimesNanoAt(dir, base, times[:], unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return nil
}

// eachXattr calls set for the attributes that the entry brings. One that the file system has no room for its kind of isn't an error.
func eachXattr(hdr *tar.Header, set func(name string, value []byte) error) error {
	for key, value := range hdr.PAXRecords {
		name, found := strings.CutPrefix(key, paxXattr)
		if !found || strings.HasPrefix(name, overlayMark) {
			continue
		}
		if err := set(name, []byte(value)); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("set attribute %s: %w", quoteName(name), err)
		}
	}
	return nil
}

func setTimes(fd int, hdr *tar.Header) error { return setTimespecs(fd, timesOf(hdr)) }

// setTimespecs is futimens(3): utimensat(2) without a path, which x/sys/unix doesn't offer.
func setTimespecs(fd int, times [2]unix.Timespec) error {
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("set times: %w", errno)
	}
	return nil
}

func timesOf(hdr *tar.Header) [2]unix.Timespec {
	accessed := hdr.AccessTime
	if accessed.Before(hdr.ModTime) {
		accessed = hdr.ModTime
	}
	return [2]unix.Timespec{timespec(accessed), timespec(hdr.ModTime)}
}

// timespec: what no file system can hold becomes the epoch.
func timespec(t time.Time) unix.Timespec {
	seconds := t.Unix()
	if seconds < 0 || seconds > math.MaxInt32*2 {
		return unix.Timespec{}
	}
	return unix.NsecToTimespec(seconds*1e9 + int64(t.Nanosecond()))
}
