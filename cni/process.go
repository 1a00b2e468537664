package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/types"
)

const (
	// killGrace is how long the output of a killed plugin is waited for: a child of its may have inherited the pipe.
	killGrace = time.Second
	busyRetry = 200 * time.Millisecond
	// outputMost is how many bytes of a plugin's output are taken. Results have some thousand.
	outputMost = 4 << 20
)

// runProcess runs a plugin's binary as libcni's RawExec does, which it takes the place of for two reasons: RawExec waits for as long
// as anybody holds the plugin's output open, deadline or not, and sleeps on "text file busy" whatever the context says.
// The process starts in the network namespace of the calling thread.
func runProcess(ctx context.Context, path string, config []byte, environ []string) ([]byte, error) {
	for {
		out, err := runOnce(ctx, path, config, environ)
		if !errors.Is(err, syscall.ETXTBSY) || ctx.Err() != nil {
			return out, err
		}
		select { // somebody is writing the binary just now
		case <-ctx.Done():
		case <-time.After(busyRetry):
		}
	}
}

func runOnce(ctx context.Context, path string, config []byte, environ []string) ([]byte, error) {
	var stdout, stderr output
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = environ
	cmd.Stdin = bytes.NewReader(config)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = killGrace
	err := cmd.Run()
	switch {
	case stdout.full || stderr.full:
		return nil, fmt.Errorf("%s: %w: it goes on for more than %d bytes", path, ErrPluginOutput, outputMost)
	case err == nil:
		return checkOutput(path, stdout.said.Bytes())
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%w: %s: %w", ErrPluginTimeout, path, ctx.Err())
	}
	// On failure a plugin prints an error object (CNI specification, section 5).
	told := &types.Error{}
	if json.Unmarshal(stdout.said.Bytes(), told) == nil && told.Msg != "" {
		return nil, fmt.Errorf("%s: %w", path, told)
	}
	return nil, fmt.Errorf("%s: %w: %s", path, err, lastLine(stderr.said.String()+"\n"+stdout.said.String()))
}

// output keeps what a plugin prints, up to outputMost. Who prints more finds his pipe closed.
type output struct {
	said bytes.Buffer // not embedded: it would be read into past Write
	full bool
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	if o.said.Len()+len(p) > outputMost {
		o.full = true
		return 0, io.ErrShortWrite
	}
	return o.said.Write(p)
}

// checkOutput names the plugin that printed garbage; libcni would not.
func checkOutput(path string, out []byte) ([]byte, error) {
	if len(bytes.TrimSpace(out)) == 0 || json.Valid(out) {
		return out, nil
	}
	return nil, fmt.Errorf("%s: %w: %.80q", path, ErrPluginOutput, out)
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}
