package disk

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// Format makes a file with an empty ext4 of so many bytes in it, with further features (mkfs.ext4 -O). It needs mkfs.ext4.
func Format(path string, size int64, features ...string) error {
	// No initialisation in the background: it would be the only thing that writes.
	args := []string{"-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"}
	for _, feature := range features {
		args = append(args, "-O", feature)
	}
	return fill("mkfs.ext4", args, path, size)
}

// FormatAs is Format for "xfs" and "btrfs". It needs mkfs.xfs, mkfs.btrfs. XFS takes 300 MiB at least.
func FormatAs(fstype, path string, size int64) error {
	return fill("mkfs."+fstype, []string{"-q"}, path, size)
}

func fill(program string, args []string, path string, size int64) error {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(path, size); err != nil {
		return err
	}
	out, err := exec.Command(program, append(args, path)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, out)
	}
	return nil
}

// WriteSparse writes content to a new file, without its blocks of zeros.
func WriteSparse(path string, content []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	const block = 64 << 10
	zeros := make([]byte, block)
	for offset := 0; offset < len(content); offset += block {
		part := content[offset:min(offset+block, len(content))]
		if bytes.Equal(part, zeros[:len(part)]) {
			continue
		}
		if _, err := f.WriteAt(part, int64(offset)); err != nil {
			return err
		}
	}
	return f.Truncate(int64(len(content)))
}

// Mount mounts the ext4 in a file, through a loop device that goes with the mount.
func Mount(image, at string) error { return mount("ext4", image, at, "", unix.LoopConfig{}) }

// MountAs is Mount for another file system, with options of its own (ext4(5), xfs(5), btrfs(5)).
func MountAs(fstype, options, image, at string) error {
	return mount(fstype, image, at, options, unix.LoopConfig{})
}

// MountSectors is Mount as of a disk with sectors of so many bytes, of which those of an ext4 of 512 MiB and more may have 4096.
func MountSectors(image, at string, size uint32) error {
	return mount("ext4", image, at, "", unix.LoopConfig{Size: size})
}

// MountDirect is Mount for measuring: what is written isn't cached twice. The file's own file system must be able to (open(2), O_DIRECT).
func MountDirect(image, at string) error {
	return mount("ext4", image, at, "", unix.LoopConfig{Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_DIRECT_IO}})
}

func mount(fstype, image, at, options string, loopback unix.LoopConfig) error {
	backing, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer backing.Close()
	loop, err := attach(backing, loopback)
	if err != nil {
		return fmt.Errorf("attach %s to a loop device: %w", image, err)
	}
	defer loop.Close()
	if err := unix.Mount(loop.Name(), at, fstype, unix.MS_NOATIME, options); err != nil {
		return fmt.Errorf("mount %s: %w", image, err)
	}
	return nil
}

// attach finds a free loop device; others may be faster at it, then the next is asked for.
func attach(backing *os.File, config unix.LoopConfig) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) && exec.Command("modprobe", "loop").Run() == nil { // a machine without udev
		control, err = os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	}
	if err != nil {
		return nil, err
	}
	defer control.Close()
	config.Fd = uint32(backing.Fd())
	config.Info.Flags |= unix.LO_FLAGS_AUTOCLEAR
	for {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, err
		}
		loop, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
		if err == nil {
			return loop, nil
		}
		loop.Close()
		if err != unix.EBUSY {
			return nil, err
		}
	}
}
