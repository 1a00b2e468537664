package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = environ
	cmd.Stdin = bytes.NewReader(config)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = killGrace
	err := cmd.Run()
	switch {
	case err == nil:
		return checkOutput(path, stdout.Bytes())
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%w: %s: %w", ErrPluginTimeout, path, ctx.Err())
	}
	// On failure a plugin prints an error object (CNI specification, section 5).
	told := &types.Error{}
	if json.Unmarshal(stdout.Bytes(), told) == nil && told.Msg != "" {
		return nil, fmt.Errorf("%s: %w", path, told)
	}
	return nil, fmt.Errorf("%s: %w: %s", path, err, lastLine(stderr.String()+"\n"+stdout.String()))
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
