package criu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"time"

	criurpc "github.com/checkpoint-restore/go-criu/v7"
	"golang.org/x/sys/unix"
)

// ErrUnusable: there is no criu, or none that works on this kernel.
var ErrUnusable = errors.New("checkpoints are not possible on this node")

// ErrDump: the processes have something that criu can't dump. What it is stands in the error.
var ErrDump = errors.New("criu can't dump the processes")

// minVersion is the first that has mounts as this package wants them (mount-v2), and locks networks by nf_tables.
const minVersion = 31700

// checkTime bounds what criu may take to try the kernel.
const checkTime = 30 * time.Second

// Tool is the program criu. It may be used concurrently.
type Tool struct {
	name string // a path, or what to look for in PATH

	mu      sync.Mutex
	checked identity
	path    string // of the program that was checked
	err     error  // what the check said
}

// identity tells one program file from the next.
type identity struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

// New returns the criu at a path, or the one in PATH if name has no slash. It need not be there.
func New(name string) *Tool { return &Tool{name: name} }

// Check says whether checkpoints work on this node, as criu's own check command finds: nil, or an error that wraps ErrUnusable
// and names what is missing. It asks criu once, and again when the program has become another.
func (t *Tool) Check(ctx context.Context) error {
	_, err := t.usable(ctx)
	return err
}

// usable is Check that returns the program's path.
func (t *Tool) usable(ctx context.Context) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	path, err := exec.LookPath(t.name)
	if err != nil {
		return "", fmt.Errorf("%w: no program %s: %w", ErrUnusable, t.name, err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", fmt.Errorf("%w: look at %s: %w", ErrUnusable, path, err)
	}
	now := identity{st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim}
	if now == t.checked && path == t.path {
		return path, t.err
	}
	err = check(ctx, path)
	if ctx.Err() != nil { // it was not criu that gave up
		return "", fmt.Errorf("check %s: %w", path, context.Cause(ctx))
	}
	t.checked, t.path, t.err = now, path, err
	return path, err
}

func check(ctx context.Context, path string) error {
	c := criurpc.MakeCriu()
	c.SetCriuPath(path)
	version, err := c.GetCriuVersion()
	if err != nil {
		return fmt.Errorf("%w: ask %s for its version: %w", ErrUnusable, path, err)
	}
	if version < minVersion {
		return fmt.Errorf("%w: %s has version %d.%d, and 3.17 is needed", ErrUnusable, path, version/10000, version/100%100)
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "check")
	cmd.WaitDelay = time.Second
	said, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	if words := firstError(said); words != "" {
		return fmt.Errorf("%w: %s check: %s", ErrUnusable, path, words)
	}
	return fmt.Errorf("%w: %s check: %w", ErrUnusable, path, err)
}

// A line of criu's log: "(00.084697)      1: Error (criu/mount-v2.c:319): mnt-v2: Failed to …".
var errorLine = regexp.MustCompile(`(?m)^.*?Error \([^)]*\): (.*)$`)

// firstError is the first error in criu's log, which the later ones only follow from, "" when it has none.
func firstError(log []byte) string {
	m := errorLine.FindSubmatch(log)
	if m == nil {
		return ""
	}
	return strings.TrimSpace(string(bytes.ToValidUTF8(m[1], []byte("?"))))
}

// Explain adds what criu's log says to an error; a log that isn't there adds nothing.
func Explain(err error, log string) error {
	text, readErr := os.ReadFile(log)
	if readErr != nil {
		return err
	}
	if words := firstError(text); words != "" {
		return fmt.Errorf("%w: %s", err, words)
	}
	return err
}
