package criu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrUnusable: there is no criu, or none that works on this kernel.
var ErrUnusable = errors.New("checkpoints are not possible on this node")

// ErrDump: the processes have something that criu can't dump. What it is stands in the error.
var ErrDump = errors.New("criu can't dump the processes")

// minMajor and minMinor are the first version that has mounts as this package wants them (mount-v2), and locks networks by nf_tables.
const minMajor, minMinor = 3, 17

// checkTime bounds what criu may take to say its version and to try the kernel.
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
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	if err := checkVersion(ctx, path); err != nil {
		return err
	}
	said, err := ask(ctx, path, "check")
	if err == nil {
		return nil
	}
	if words := firstError(said); words != "" {
		return fmt.Errorf("%w: %s check: %s", ErrUnusable, path, words)
	}
	return fmt.Errorf("%w: %s check: %w", ErrUnusable, path, err)
}

// What criu says of its version: "Version: 3.17.1", or "Version: 4.1 (gitid 0)".
var versionLine = regexp.MustCompile(`(?m)^Version: (\d{1,4})\.(\d{1,4})`)

// checkVersion asks by the command line: whoever asks by RPC waits for ever for a program that is none of criu's.
func checkVersion(ctx context.Context, path string) error {
	said, err := ask(ctx, path, "--version")
	m := versionLine.FindSubmatch(said)
	if err == nil && m == nil {
		err = fmt.Errorf("it says %.100q", said)
	}
	if err != nil {
		return fmt.Errorf("%w: ask %s for its version: %w", ErrUnusable, path, err)
	}
	major, _ := strconv.Atoi(string(m[1])) // digits
	minor, _ := strconv.Atoi(string(m[2]))
	if major < minMajor || major == minMajor && minor < minMinor {
		return fmt.Errorf("%w: %s has version %d.%d, and %d.%d is needed", ErrUnusable, path, major, minor, minMajor, minMinor)
	}
	return nil
}

// ask runs the program until ctx ends, and returns what it printed.
func ask(ctx context.Context, path, what string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, path, what)
	cmd.WaitDelay = time.Second
	said, err := cmd.CombinedOutput()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return said, err
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
