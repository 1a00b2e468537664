package stream

import (
	"context"
	"io"
	"strconv"
	"strings"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"github.com/berth-runtime/berth/sandbox"
)

// exitError is the end of a command with another code than 0, in the form that
// cri-streaming looks for (k8s.io/utils/exec.ExitError).
type exitError int32

func (e exitError) Error() string   { return "exit code " + strconv.Itoa(int(e)) }
func (e exitError) String() string  { return e.Error() }
func (e exitError) Exited() bool    { return true }
func (e exitError) ExitStatus() int { return int(e) }

// lineError is an error on one line: errors that were joined have one each, and clients print what they get.
type lineError struct{ error }

func (e lineError) Error() string { return strings.ReplaceAll(e.error.Error(), "\n", "; ") }
func (e lineError) Unwrap() error { return e.error }

func onOneLine(err error) error {
	if err == nil {
		return nil
	}
	return lineError{err}
}

// adapter is the Runtime as cri-streaming calls it.
type adapter struct{ s *Server }

// ExecInContainer is of remotecommand.Executor. CRI knows a container's id only.
func (a *adapter) ExecInContainer(ctx context.Context, _, _, container string, command []string, in io.Reader, out, errout io.WriteCloser,
	tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	return a.s.run(ctx, execRequest{container: container, command: command}, streams(ctx, in, out, errout, tty, resize))
}

// AttachContainer is of remotecommand.Attacher.
func (a *adapter) AttachContainer(ctx context.Context, _, _, container string, in io.Reader, out, errout io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	return a.s.join(ctx, container, streams(ctx, in, out, errout, tty, resize))
}

// PortForward is of portforward.PortForwarder.
func (a *adapter) PortForward(ctx context.Context, pod, _ string, port int32, stream io.ReadWriteCloser) error {
	return onOneLine(a.s.runtime.PortForward(ctx, pod, port, stream))
}

// streams leaves out what is nil: an interface with a nil pointer in it is not nil.
func streams(ctx context.Context, in io.Reader, out, errout io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) sandbox.Streams {
	s := sandbox.Streams{TTY: tty}
	if in != nil {
		s.Stdin = in
	}
	if out != nil {
		s.Stdout = out
	}
	if errout != nil {
		s.Stderr = errout
	}
	if resize != nil {
		s.Resize = sizes(ctx, resize)
	}
	return s
}

func sizes(ctx context.Context, from <-chan remotecommand.TerminalSize) <-chan sandbox.TerminalSize {
	to := make(chan sandbox.TerminalSize)
	go func() { // ends with the client's stream or the request
		defer close(to)
		for size := range from {
			select {
			case to <- sandbox.TerminalSize{Width: size.Width, Height: size.Height}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return to
}
