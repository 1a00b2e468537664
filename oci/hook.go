package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/berth-runtime/berth/oci/program"
	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// HookKind is one of the six kinds of hooks of the OCI spec (config.md, "POSIX-platform Hooks").
type HookKind string

// The kinds, in the order in which they run.
const (
	Prestart        HookKind = "prestart"        // deprecated; as createRuntime, and before it
	CreateRuntime   HookKind = "createRuntime"   // everything is mounted, the root is not changed yet
	CreateContainer HookKind = "createContainer" // after it, in the container's namespaces, with the host's files
	StartContainer  HookKind = "startContainer"  // in the container, before the user's program
	Poststart       HookKind = "poststart"       // after it was started
	Poststop        HookKind = "poststop"        // after the container is gone
)

// KindsAt are the kinds that run while a process waits at a gate, in their order.
func KindsAt(gate string) []HookKind {
	switch gate {
	case program.GateCreate:
		return []HookKind{Prestart, CreateRuntime, CreateContainer}
	case program.GateStart:
		return []HookKind{StartContainer}
	default:
		return nil
	}
}

// Hooks are those of a kind.
func Hooks(s *specs.Spec, kind HookKind) []specs.Hook {
	h := s.Hooks
	if h == nil {
		return nil
	}
	switch kind {
	case Prestart:
		//lint:ignore SA1019 deprecated, and still what most hooks are
		return h.Prestart
	case CreateRuntime:
		return h.CreateRuntime
	case CreateContainer:
		return h.CreateContainer
	case StartContainer:
		return h.StartContainer
	case Poststart:
		return h.Poststart
	default:
		return h.Poststop
	}
}

// Inside says whether hooks of the kind run in the container's namespaces.
func (k HookKind) Inside() bool { return k == CreateContainer || k == StartContainer }

// HookError is a hook that failed.
type HookError struct {
	Kind   HookKind
	Path   string
	Err    error  // how it ended: "exit status 3"
	Output string // the end of what it wrote
}

func (e *HookError) Error() string {
	text := fmt.Sprintf("%s hook %s: %v", e.Kind, e.Path, e.Err)
	if out := strings.TrimSpace(e.Output); out != "" {
		text += ": " + out
	}
	return text
}

// Unwrap returns how it ended.
func (e *HookError) Unwrap() error { return e.Err }

// ErrHookTimeout: a hook took longer than its timeout, and was killed.
var ErrHookTimeout = errors.New("killed after its timeout")

// HookTime bounds a hook by its own timeout, in seconds.
func HookTime(ctx context.Context, h specs.Hook) (context.Context, context.CancelFunc) {
	if h.Timeout == nil || *h.Timeout <= 0 {
		return context.WithCancel(ctx)
	}
	limit := time.Duration(*h.Timeout) * time.Second
	return context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w of %s", ErrHookTimeout, limit))
}

// maxHookOutput is how much of a failed hook's output its error shows.
const maxHookOutput = 4096

// RunHook runs a hook in this process's namespaces, with the container's state on its standard input, and
// waits for it. A hook that fails is a *HookError. What it starts in its process group ends with it when its
// time is over.
func RunHook(ctx context.Context, kind HookKind, h specs.Hook, state specs.State) error {
	ctx, cancel := HookTime(ctx, h)
	defer cancel()
	input, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("write the container's state: %w", err)
	}
	var out HookOutput
	cmd := exec.CommandContext(ctx, h.Path)
	cmd.Args, cmd.Env, cmd.Dir = hookArgs(h), append([]string{}, h.Env...), state.Bundle
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &out, &out
	// It goes with this process, or rather with the thread that started it (PR_SET_PDEATHSIG(2const)).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // for what it left behind with its output open
	err = cmd.Run()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	return &HookError{Kind: kind, Path: h.Path, Err: err, Output: out.String()}
}

// HookOutput keeps the end of what is written to it, for a HookError.
type HookOutput struct {
	kept []byte
	cut  bool
}

// Write takes everything.
func (o *HookOutput) Write(p []byte) (int, error) {
	o.kept = append(o.kept, p...)
	if over := len(o.kept) - maxHookOutput; over > 0 {
		o.kept, o.cut = append(o.kept[:0], o.kept[over:]...), true
	}
	return len(p), nil
}

// String is what was kept.
func (o *HookOutput) String() string {
	if o.cut {
		return "…" + string(o.kept)
	}
	return string(o.kept)
}

// hookArgs are a hook's arguments, its name the first; it may leave them out.
func hookArgs(h specs.Hook) []string {
	if len(h.Args) == 0 {
		return []string{h.Path}
	}
	return h.Args
}

// InsideHook is the exec of a hook in the namespaces of a container's process. A createContainer hook has the
// launcher's privilege in them, and starts in dir; a startContainer hook is what the user's process is, but
// starts in the root.
// PidFD and the rest are the caller's to set.
func InsideHook(kind HookKind, h specs.Hook, spec *specs.Spec, dir string) Exec {
	if kind == StartContainer {
		p := *spec.Process
		p.Args, p.Env, p.Cwd, p.Terminal = hookArgs(h), h.Env, "/", false
		linux := *spec.Linux
		if linux.Seccomp != nil && linux.Seccomp.ListenerPath != "" {
			linux.Seccomp = nil // its listener is the user's process's
		}
		return Exec{Process: &p, Path: h.Path, Linux: &linux}
	}
	var all []string
	for _, c := range capability.ListKnown() {
		all = append(all, "CAP_"+strings.ToUpper(c.String()))
	}
	caps := &specs.LinuxCapabilities{Bounding: all, Permitted: all, Effective: all}
	return Exec{Process: &specs.Process{Args: hookArgs(h), Env: h.Env, Cwd: dir, Capabilities: caps}, Path: h.Path}
}
