package oci

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Listener is the connection to who answers for the calls that a seccomp profile refers (SCMP_ACT_NOTIFY).
type Listener struct{ conn *net.UnixConn }

// DialListener connects to a profile's listenerPath, before the container starts: a listener that isn't there
// is told then, and not when the first call waits for it.
func DialListener(ctx context.Context, path string) (*Listener, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("connect to the seccomp listener: %w", err)
	}
	return &Listener{conn.(*net.UnixConn)}, nil
}

// Send hands over a filter's descriptor with the state of its process, as the OCI spec has it (config-linux.md,
// "The Container Process State"), and closes the connection. The descriptor stays the caller's.
func (l *Listener) Send(state specs.ContainerProcessState, listener *os.File) error {
	defer l.Close()
	text, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("write the process's state: %w", err)
	}
	n, _, err := l.conn.WriteMsgUnix(text, unix.UnixRights(int(listener.Fd())), nil)
	if err == nil && n < len(text) {
		_, err = l.conn.Write(text[n:]) // the descriptor went with the first part
	}
	if err != nil {
		return fmt.Errorf("send to the seccomp listener: %w", err)
	}
	return nil
}

// Close hangs up; it may be called twice.
func (l *Listener) Close() { _ = l.conn.Close() }
