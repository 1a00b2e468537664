package fscontext

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// longest is what fsconfig(2) takes as a string, without the closing zero.
const longest = 255

// Context is a file system that is being configured. It is used by one goroutine; Close ends it, whatever became of it.
type Context struct {
	fd     int
	fstype string
}

// Open begins a file system of that type. ENODEV: the kernel has none.
func Open(fstype string) (*Context, error) {
	fd, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsopen %s: %w", fstype, err)
	}
	return &Context{fd, fstype}, nil
}

// Close gives the descriptor back. A mount that was made stays.
func (c *Context) Close() { unix.Close(c.fd) }

// String sets a key to a text.
func (c *Context) String(key, value string) error {
	if err := unix.FsconfigSetString(c.fd, key, value); err != nil {
		return fmt.Errorf("set %s to %s: %w", key, value, c.explain(err))
	}
	return nil
}

// Flag sets a key that has no value.
func (c *Context) Flag(key string) error {
	if err := unix.FsconfigSetFlag(c.fd, key); err != nil {
		return fmt.Errorf("set %s: %w", key, c.explain(err))
	}
	return nil
}

// File sets a key to what a descriptor is of; name is what errors call it.
func (c *Context) File(key string, fd int, name string) error {
	if err := unix.FsconfigSetFd(c.fd, key, fd); err != nil {
		return fmt.Errorf("set %s to %s: %w", key, name, c.explain(err))
	}
	return nil
}

// Fits tells whether a path can be given as a text.
func Fits(path string) bool { return len(path) <= longest }

// Path sets a key to a directory, by its name if that is short enough, else by descriptor, which not every key of every kernel takes.
func (c *Context) Path(key, path string) error {
	if Fits(path) {
		return c.String(key, path)
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	return c.File(key, fd, path)
}

// Mount makes the file system, and a detached mount of it with these attributes (MOUNT_ATTR_*), which the caller closes.
func (c *Context) Mount(attributes int) (*os.File, error) {
	if err := unix.FsconfigCreate(c.fd); err != nil {
		return nil, fmt.Errorf("create: %w", c.explain(err))
	}
	fd, err := unix.Fsmount(c.fd, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return nil, fmt.Errorf("fsmount: %w", c.explain(err))
	}
	return os.NewFile(uintptr(fd), c.fstype), nil
}

// explain adds what the kernel has to say of an error: reading the descriptor of fsopen gives a line a message, with its level
// first ("e overlay: …").
func (c *Context) explain(err error) error {
	buf := make([]byte, 1024)
	var said []string
	for len(said) < 8 {
		n, readErr := unix.Read(c.fd, buf)
		if readErr != nil || n <= 0 {
			break
		}
		said = append(said, strings.TrimSpace(strings.TrimPrefix(string(buf[:n]), "e ")))
	}
	if len(said) == 0 {
		return err
	}
	return fmt.Errorf("%w (%s)", err, strings.Join(said, "; "))
}
