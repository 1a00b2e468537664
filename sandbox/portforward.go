package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/sandbox/spec"
)

const (
	// dialTime is how long a port of a pod may take to answer; it is on the same machine.
	dialTime = 10 * time.Second
	// lingerTime is how long a client may go on to send when the server has said its last.
	lingerTime = 5 * time.Second
)

// ReadyPod returns the full id of a pod that is ready; ErrState when it isn't.
func (ss *sessions) ReadyPod(podID string) (string, error) {
	p, err := ss.index.pod(podID)
	if err != nil {
		return "", err
	}
	if s := p.state(); s != PodReady {
		return "", stateError("pod", p.id, s)
	}
	return p.id, nil
}

// PortForward connects a client to a TCP port that something in the pod listens
// on: on 127.0.0.1, or else on ::1. It returns when either has ended. Only a
// connection that can't be made is an error: how one ends is its own business, and
// clients take an error for the end of all that they forward.
func (ss *sessions) PortForward(ctx context.Context, podID string, port int32, client io.ReadWriteCloser) error {
	p, err := ss.index.pod(podID)
	if err != nil {
		return err
	}
	if s := p.state(); s != PodReady {
		return stateError("pod", p.id, s)
	}
	if port < 1 || port > 65535 {
		return &spec.FieldError{Field: "port", Value: strconv.Itoa(int(port)), Rule: "must be between 1 and 65535"}
	}
	ctx, stop := with(ctx, p.life) // a pod that stops takes its connections with it
	defer stop()
	namespace := p.now().NetNS
	if p.config.Security.Namespaces.Network == spec.NamespaceNode {
		namespace = ""
	}
	server, err := ss.dialPort(ctx, namespace, int(port))
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause // the connection's own error only says that it was given up
	}
	if err != nil {
		return fmt.Errorf("forward port %d of pod %s: %w", port, p.config.Metadata.Name, err)
	}
	end := context.AfterFunc(ctx, func() { server.Close() })
	defer end()
	ss.join(server, client)
	return nil
}

func (ss *sessions) dialPort(ctx context.Context, namespace string, port int) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	var errs []error
	for _, host := range []string{"127.0.0.1", "::1"} {
		conn, err := ss.host.dial(ctx, namespace, net.JoinHostPort(host, strconv.Itoa(port)))
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// join copies both ways until the server has ended. The end of one direction is
// passed on, and the other goes on: what half-closes a connection gets its answer.
func (ss *sessions) join(server *net.TCPConn, client io.ReadWriteCloser) {
	broke := func(op string, err error) {
		if err != nil {
			ss.log.WithFields(logrus.Fields{"op": op, "error": err}).Debug("forwarded connection broke")
		}
	}
	sent := make(chan struct{})
	go func() { // ends with the client's stream, which the caller of PortForward closes
		defer close(sent)
		_, err := io.Copy(server, client)
		broke("copy to pod", err)
		_ = server.CloseWrite() // an error: it is closed
	}()
	_, err := io.Copy(client, server)
	broke("copy from pod", err)
	client.Close()
	linger := time.NewTimer(lingerTime)
	defer linger.Stop()
	select {
	case <-sent:
	case <-linger.C:
	}
	server.Close()
}

// dial connects to a TCP address in the network namespace at a path; "" is the
// host's.
func (l *linux) dial(ctx context.Context, namespace, address string) (*net.TCPConn, error) {
	if namespace == "" {
		return dialTCP(ctx, address)
	}
	type result struct {
		conn *net.TCPConn
		err  error
	}
	done := make(chan result, 1)
	go func() { // ends with the dial
		var r result
		r.err = func() error {
			there, err := os.Open(namespace)
			if err != nil {
				return fmt.Errorf("open network namespace: %w", err)
			}
			defer there.Close()
			return inNamespace(there, specs.NetworkNamespace, func() (err error) {
				r.conn, err = dialTCP(ctx, address)
				return err
			})
		}()
		done <- r
	}()
	r := <-done
	return r.conn, r.err
}

// dialTCP makes its socket on the calling thread: the address is no name, and one.
func dialTCP(ctx context.Context, address string) (*net.TCPConn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}
