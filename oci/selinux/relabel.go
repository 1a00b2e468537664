package selinux

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/selinux/go-selinux"
	"golang.org/x/sys/unix"
)

// attribute is where a file's label is (xattr(7)).
const attribute = "security.selinux"

// ErrSystemDirectory: a directory that the node itself needs with its labels.
var ErrSystemDirectory = errors.New("the node's own directories are not relabelled")

// system are directories that a volume is no reason to relabel: what lives there would lose its access. Those
// that other runtimes refuse too.
var system = []string{
	"/", "/bin", "/boot", "/dev", "/etc", "/etc/passwd", "/etc/pki", "/etc/shadow", "/home", "/lib", "/lib64", "/media", "/opt",
	"/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/usr/bin", "/usr/lib", "/usr/lib64", "/usr/local", "/usr/sbin", "/var", "/var/lib", "/var/log",
}

// SetLabel gives one file of the host a label. A file system that has no labels, or one for all of its files by
// its mount (-o context), is a success: there is nothing to be set.
func (h *Host) SetLabel(path, label string) error {
	if err := unix.Lsetxattr(path, attribute, []byte(label), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
		return fmt.Errorf("label %s: %w", path, err)
	}
	return nil
}

// Relabel gives what is at a path, and all that is below it, a label; symlinks in the path are followed, those
// below it are labelled themselves. A file system without labels is a success, as with SetLabel. What others remove or add
// meanwhile is no error. Errors: ErrSystemDirectory.
//
// It goes down by descriptors: a container that has the volume already can't lead it elsewhere by a link.
func (h *Host) Relabel(path, label string) error {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("relabel: %w", err)
	}
	if slices.Contains(system, resolved) {
		return fmt.Errorf("relabel %s: %w", resolved, ErrSystemDirectory)
	}
	fd, err := unix.Open(resolved, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("relabel %s: %w", resolved, err)
	}
	if err := relabel(os.NewFile(uintptr(fd), resolved), label); err != nil {
		return fmt.Errorf("relabel %s: %w", resolved, err)
	}
	return nil
}

// LabelImages lets containers read and execute the files of images below a directory, which is made where it is
// missing: the kernel asks for that beside the label of a container's root (of mprotect(2), for one). What is made in
// it later inherits its label. It goes through all of it once, when the label is another. Without SELinux, or a
// policy for containers, it does nothing.
func (h *Host) LabelImages(dir string) error {
	if !h.Enabled() {
		return nil
	}
	process, label, err := h.contexts()
	if err != nil {
		return err
	}
	if process == "" || label == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("label images: %w", err)
	}
	if own, err := selinux.LfileLabel(dir); err == nil && own == label {
		return nil
	}
	return h.Relabel(dir, label)
}

// relabel closes the file, which is open as a path. Where labels can't be set, that is so for all below it.
func relabel(at *os.File, label string) error {
	defer at.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(at.Fd()), &st); err != nil {
		return err
	}
	// A path's descriptor takes no attributes itself, and its link in /proc leads to what it is, a symlink too.
	err := unix.Setxattr(fmt.Sprintf("/proc/self/fd/%d", at.Fd()), attribute, []byte(label), 0)
	switch {
	case errors.Is(err, unix.ENOTSUP):
		return nil
	case err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return err
	}
	return relabelBelow(at, label)
}

func relabelBelow(at *os.File, label string) error {
	fd, err := unix.Openat(int(at.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), at.Name())
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		fd, err := unix.Openat(int(dir.Fd()), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err == nil {
			err = relabel(os.NewFile(uintptr(fd), name), label)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
