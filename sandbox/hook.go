package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/oci"
	"github.com/berth-runtime/berth/sandbox/keeper"
)

// Where a container's OCI hooks run. The container's process waits at its gates
// meanwhile (oci.Gate); it runs none itself.
//
//	mounts made      create ── prestart, createRuntime   the daemon's children
//	                        ── createContainer           the keeper's, in the container's namespaces, before pivot_root
//	root changed     start ─── startContainer            the keeper's, in the container
//	program runs            ── poststart                 the daemon's children
//	container gone          ── poststop                  the daemon's children; a failure is only logged
//
// The first hook that fails ends the start.

// hooks runs them, and serves launches at their gates.
type hooks struct {
	*base
	builder *specBuilder
}

// bundle is the directory that hooks know a container by: config.json, and rootfs,
// where its root is mounted until pivot_root, in the container's mount namespace.
func (hs *hooks) bundle(c *container) string { return filepath.Join(hs.cfg.podFiles(c.pod.id), c.id) }

// bundleRoot is where the root is in a bundle: Spec.Root.Path.
const bundleRoot = "rootfs"

// needsBundle says whether anybody is told of the bundle.
func needsBundle(s *specs.Spec) bool {
	return s.Hooks != nil || s.Linux.Seccomp != nil && s.Linux.Seccomp.ListenerPath != ""
}

// makeBundle may be repeated.
func (hs *hooks) makeBundle(c *container, s *specs.Spec) error {
	config, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("make bundle: %w", err)
	}
	dir := hs.bundle(c)
	// A user namespace's root has to get to the root file system.
	if err := os.MkdirAll(filepath.Join(dir, bundleRoot), 0o711); err != nil {
		return fmt.Errorf("make bundle: %w", err)
	}
	// The environment may hold secrets.
	if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600); err != nil {
		return fmt.Errorf("make bundle: %w", err)
	}
	return nil
}

// removeBundle is content when there is none.
func (hs *hooks) removeBundle(c *container) error {
	if err := os.RemoveAll(hs.bundle(c)); err != nil {
		return fmt.Errorf("remove bundle: %w", err)
	}
	return nil
}

// ociState is what hooks read on their standard input.
func (hs *hooks) ociState(c *container, s *specs.Spec, status specs.ContainerState, pid int) specs.State {
	return specs.State{Version: specs.Version, ID: c.id, Status: status, Pid: pid, Bundle: hs.bundle(c), Annotations: s.Annotations}
}

// runHooks runs a container's hooks of a kind, in their order, up to the first that
// fails. pid is that of its process; 0: it has none any more.
func (hs *hooks) runHooks(ctx context.Context, c *container, s *specs.Spec, kind oci.HookKind, pid int) error {
	statuses := map[oci.HookKind]specs.ContainerState{
		oci.StartContainer: specs.StateCreated, oci.Poststart: specs.StateRunning, oci.Poststop: specs.StateStopped,
	}
	status, ok := statuses[kind]
	if !ok {
		status = specs.StateCreating
	}
	state := hs.ociState(c, s, status, pid)
	for _, h := range oci.Hooks(s, kind) {
		var err error
		if kind.Inside() {
			err = hs.runInside(ctx, c, s, kind, h, state)
		} else {
			err = oci.RunHook(ctx, kind, h, state)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// attendant does at the gates of a container's start what belongs there.
func (hs *hooks) attendant(c *container, s *specs.Spec, listener *oci.Listener) oci.Attendant {
	return oci.Attendant{
		Hooks: func(ctx context.Context, gate string, pid int) error {
			for _, kind := range oci.KindsAt(gate) {
				if err := hs.runHooks(ctx, c, s, kind, pid); err != nil {
					return err
				}
			}
			return nil
		},
		Listener: func(_ context.Context, pid int, f *os.File) error {
			defer f.Close()
			return listener.Send(hs.processState(c, s, specs.StateCreating, pid, pid), f)
		},
	}
}

// poststop runs the hooks of a container that is gone, and removes the bundle, which
// says that it was started and they have not been run.
func (hs *hooks) poststop(ctx context.Context, c *container) {
	if _, err := os.Lstat(hs.bundle(c)); errors.Is(err, fs.ErrNotExist) {
		return
	}
	c.poststop.Do(func() { // a removal meanwhile waits
		s, err := hs.builder.specOf(c)
		if err == nil {
			err = hs.runHooks(ctx, c, s, oci.Poststop, 0)
		}
		if err := errors.Join(err, hs.removeBundle(c)); err != nil {
			hs.log.WithFields(logrus.Fields{"container": c.id, "error": err}).Warn("hook failed after the container's end")
		}
	})
}

// afterStop is poststop under a deadline of its own, for a container that did not
// come to an end by itself.
func (hs *hooks) afterStop(ctx context.Context, c *container) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer cancel()
	hs.poststop(ctx, c)
}

// runInside runs a hook in the namespaces of the container's process.
func (hs *hooks) runInside(ctx context.Context, c *container, s *specs.Spec, kind oci.HookKind, h specs.Hook, state specs.State) error {
	ctx, cancel := oci.HookTime(ctx, h)
	defer cancel()
	failed := func(err error, output string) error {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return &oci.HookError{Kind: kind, Path: h.Path, Err: err, Output: output}
	}
	e := oci.InsideHook(kind, h, s, state.Bundle)
	fd, err := unix.PidfdOpen(state.Pid, 0) // it waits at the gate: the number is its own
	if err != nil {
		return failed(fmt.Errorf("open process %d: %w", state.Pid, err), "")
	}
	e.PidFD = os.NewFile(uintptr(fd), "pidfd")
	defer e.PidFD.Close()
	if state.Pid, err = innerPID(state.Pid); err != nil {
		return failed(err, "")
	}
	if e.Stdin, err = inMemory(state); err != nil {
		return failed(err, "")
	}
	defer e.Stdin.Close()
	output, end, err := collect()
	if err != nil {
		return failed(err, "")
	}
	defer output.close()
	defer end.Close()
	e.Stdout, e.Stderr, e.Cgroup = end, end, c.group
	e.UserNamespace = c.pod.config.Security.Namespaces.OwnUser() != nil
	exit, err := hs.runExec(ctx, e, end)
	if err == nil && exit.Status == 0 {
		return nil
	}
	var out oci.HookOutput
	_, _ = out.Write(output.drain())
	if err == nil {
		err = exitError(exit)
	}
	return failed(err, out.String())
}

// runExec launches an exec, closes our end of its output, and waits for its end, which
// comes with ctx's at the latest.
func (hs *hooks) runExec(ctx context.Context, e oci.Exec, end io.Closer) (keeper.Exit, error) {
	l, err := hs.parts.Programs.PrepareExec(e)
	if err != nil {
		return keeper.Exit{}, err
	}
	defer l.Close()
	key := execKey(newID())
	p, err := hs.parts.Keeper.Launch(ctx, keeper.Launch{Key: key, Program: l.Program, Files: l.Files, Oneshot: true})
	if err != nil {
		return keeper.Exit{}, l.Explain(err)
	}
	proc := newProcess(p.PID, p.PidFD)
	defer proc.release()
	end.Close()
	exit, err := hs.parts.Keeper.Wait(ctx, key)
	if err != nil {
		err = errors.Join(err, proc.killGroup())
	}
	return exit, err
}

// exitError says how a process ended that should have ended well.
func exitError(exit keeper.Exit) error {
	if exit.Status.Signaled() {
		return fmt.Errorf("signal: %s", exit.Status.Signal())
	}
	return fmt.Errorf("exit status %d", exit.Status.ExitStatus())
}

// inMemory is a file with a state in it, open for reading.
func inMemory(state specs.State) (*os.File, error) {
	text, err := json.Marshal(state)
	if err != nil {
		return nil, fmt.Errorf("write the container's state: %w", err)
	}
	fd, err := unix.MemfdCreate("berth-state", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "state")
	_, err = f.Write(text)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write the container's state: %w", err)
	}
	return f, nil
}

// innerPID is a process's number in its own PID namespace: the last of NSpid
// (proc_pid_status(5)).
func innerPID(pid int) (int, error) {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, fmt.Errorf("look at process %d: %w", pid, err)
	}
	_, rest, _ := strings.Cut(string(status), "\nNSpid:")
	line, _, _ := strings.Cut(rest, "\n")
	numbers := strings.Fields(line)
	if len(numbers) == 0 {
		return pid, nil // a kernel without PID namespaces
	}
	return strconv.Atoi(numbers[len(numbers)-1])
}
