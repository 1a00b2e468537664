package sandbox

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/oci"
)

// consoleTime is how long a terminal may take to come when the runtime's create is over, which sent it before.
const consoleTime = 5 * time.Second

// console is the socket to which a runtime's create sends the master of the terminal that it made in the container
// (--console-socket; opencontainers/runc, docs/terminals.md).
type console struct {
	listener *net.UnixListener
	dir      *os.File // by which the socket is named: sun_path ends at 108 bytes (unix(7))
}

// consoleSocket is the socket's name in a container's bundle, which only root can enter.
const consoleSocket = "console.sock"

// listenConsole makes the socket in a directory. The caller closes it.
func listenConsole(path string) (*console, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("make console socket: %w", err)
	}
	if err := os.Remove(filepath.Join(path, consoleSocket)); err != nil && !errors.Is(err, os.ErrNotExist) {
		dir.Close()
		return nil, fmt.Errorf("make console socket: %w", err)
	}
	c := &console{dir: dir}
	c.listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: c.path(), Net: "unix"})
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("make console socket: %w", err)
	}
	return c, nil
}

// path is where another process finds the socket.
func (c *console) path() string {
	return fmt.Sprintf("/proc/%d/fd/%d/%s", os.Getpid(), c.dir.Fd(), consoleSocket)
}

// receive takes the terminal that a runtime has sent.
func (c *console) receive() (*oci.Terminal, error) {
	master, err := c.receiveMaster()
	if err != nil {
		return nil, fmt.Errorf("receive terminal: %w", err)
	}
	return &oci.Terminal{Master: master}, nil
}

func (c *console) receiveMaster() (*os.File, error) {
	deadline := time.Now().Add(consoleTime)
	if err := c.listener.SetDeadline(deadline); err != nil {
		return nil, err
	}
	conn, err := c.listener.AcceptUnix()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	text, rights := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*8))
	_, n, _, _, err := conn.ReadMsgUnix(text, rights)
	if err != nil {
		return nil, err
	}
	var fds []int
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	for i := range messages {
		some, _ := unix.ParseUnixRights(&messages[i]) // what is no descriptors has none
		fds = append(fds, some...)
	}
	for i, fd := range fds {
		unix.CloseOnExec(fd) // Go receives them so
		if i > 0 {
			unix.Close(fd)
		}
	}
	if err != nil || len(fds) == 0 {
		return nil, errors.Join(errors.New("no descriptor came"), err)
	}
	if _, err := unix.IoctlGetTermios(fds[0], unix.TCGETS); err != nil {
		unix.Close(fds[0])
		return nil, fmt.Errorf("what came is no terminal: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil { // as our own are
		unix.Close(fds[0])
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), "terminal master"), nil
}

// close removes the socket.
func (c *console) close() {
	c.listener.Close()
	c.dir.Close()
}
