package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	metadata "github.com/checkpoint-restore/checkpointctl/lib"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/oci"
	"github.com/berth-runtime/berth/oci/criu"
	"github.com/berth-runtime/berth/oci/launch"
	"github.com/berth-runtime/berth/sandbox/keeper"
)

// matches says what of a container's Spec the checkpoint that it is to be restored from contradicts: the processes have the mounts and
// namespaces that they had, and nobody can give them others.
func matches(s, dumped *specs.Spec) error {
	for _, w := range []struct {
		what     string
		now, was []string
	}{
		{"mounts from outside", outside(s), outside(dumped)},
		{"namespaces", kinds(s), kinds(dumped)},
	} {
		if !slices.Equal(w.now, w.was) {
			return fmt.Errorf("%s: the checkpoint has %s, the configuration %s: %w", w.what, strings.Join(w.was, ", "), strings.Join(w.now, ", "), ErrState)
		}
	}
	if now, was := s.Process.Terminal, dumped.Process.Terminal; now != was {
		return fmt.Errorf("terminal: the checkpoint has %t, the configuration %t: %w", was, now, ErrState)
	}
	if h := s.Hooks; h != nil && len(h.CreateRuntime)+len(h.CreateContainer)+len(h.StartContainer)+len(h.Poststart) > 0 {
		return fmt.Errorf("OCI hooks at the start of a container that is restored: not possible: %w", ErrState)
	}
	return nil
}

// sameProcess says what a configuration wants of the process, or of what it sees, otherwise than the checkpoint has it; nothing of that can be
// changed.
func sameProcess(s, dumped *specs.Spec) error {
	now, was := s.Process, dumped.Process
	for _, w := range []struct {
		what     string
		now, was any
	}{
		{"user", [2]uint32{now.User.UID, now.User.GID}, [2]uint32{was.User.UID, was.User.GID}},
		{"command and arguments", now.Args, was.Args}, {"working directory", now.Cwd, was.Cwd}, {"environment", withoutHostname(now.Env), withoutHostname(was.Env)},
		{"capabilities", now.Capabilities, was.Capabilities}, {"no_new_privs", now.NoNewPrivileges, was.NoNewPrivileges},
		{"AppArmor profile", now.ApparmorProfile, was.ApparmorProfile}, {"seccomp profile", s.Linux.Seccomp, dumped.Linux.Seccomp},
		{"masked paths", sorted(s.Linux.MaskedPaths), sorted(dumped.Linux.MaskedPaths)}, {"read-only paths", sorted(s.Linux.ReadonlyPaths), sorted(dumped.Linux.ReadonlyPaths)},
		{"read-only root", readOnlyRoot(s), readOnlyRoot(dumped)},
	} {
		a, err := json.Marshal(w.now)
		b, err2 := json.Marshal(w.was)
		if err = errors.Join(err, err2); err != nil {
			return fmt.Errorf("compare %s: %w", w.what, err)
		}
		if !bytes.Equal(a, b) {
			return fmt.Errorf("%s of the process: the checkpoint has %.200s, the configuration %.200s: %w", w.what, b, a, ErrState)
		}
	}
	return nil
}

// newDevice is the path of a device that a Spec has, and the checkpoint has not: criu makes /dev as it was; "" for none.
func newDevice(s, dumped *specs.Spec) string {
	for _, d := range s.Linux.Devices {
		if !slices.ContainsFunc(dumped.Linux.Devices, func(was specs.LinuxDevice) bool { return was.Path == d.Path }) {
			return d.Path
		}
	}
	return ""
}

func readOnlyRoot(s *specs.Spec) bool { return s.Root != nil && s.Root.Readonly }

func sorted(list []string) []string {
	out := slices.Sorted(slices.Values(list))
	return slices.Compact(out)
}

// withoutHostname is an environment without what berth puts there of the pod's own, in an order of its own.
func withoutHostname(env []string) []string {
	out := slices.DeleteFunc(slices.Clone(env), func(v string) bool { return strings.HasPrefix(v, "HOSTNAME=") })
	slices.Sort(out)
	return out
}

func outside(s *specs.Spec) []string {
	var out []string
	for _, m := range s.Mounts {
		if m.Type == "bind" || m.Type == "cgroup" {
			out = append(out, m.Destination)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func kinds(s *specs.Spec) []string {
	var out []string
	for _, ns := range s.Linux.Namespaces {
		out = append(out, string(ns.Type))
	}
	slices.Sort(out)
	return out
}

// restoreBundle is where criu finds a container's root and volumes while it restores:
//
//	STATE/pods/POD/restores/CONTAINER/rootfs  mounts/N  restore.conf  restore.log
func (c *Config) restoreBundle(of *container) string {
	return filepath.Join(c.podFiles(of.pod.id), "restores", of.id)
}

// restore makes a container's processes from its checkpoint: criu runs as a command of the keeper's, in the container's cgroup, in a mount
// namespace in which the container's root and volumes are on the bundle. What it leaves is the keeper's child, which adopts it
// before it goes on.
func (ck *checkpoints) restore(ctx context.Context, s *start, in oci.Container, out keeper.Launch) error {
	restored, err := ck.runCRIU(ctx, s, in)
	err = errors.Join(err, s.c.closeRoot())
	if err != nil {
		return criu.Explain(fmt.Errorf("criu restore: %w", err), filepath.Join(ck.cfg.restoreBundle(s.c), criu.RestoreLog))
	}
	if t := restored.Terminal; t != nil && s.c.config.TTY {
		s.readTerminal(&oci.Terminal{Master: t}, &out)
	} else if t != nil {
		t.Close()
	}
	fd, err := unix.PidfdOpen(restored.PID, 0)
	if err != nil {
		return fmt.Errorf("criu restore: open process %d: %w", restored.PID, err)
	}
	proc := &keeper.Process{PID: restored.PID, PidFD: os.NewFile(uintptr(fd), "pidfd")}
	if err := ck.parts.Keeper.Adopt(ctx, out, proc); err != nil {
		proc.PidFD.Close()
		return err
	}
	s.process = newProcess(proc.PID, proc.PidFD)
	// criu names the host, although it joined a namespace that has a name.
	if uts := in.Namespaces[specs.UTSNamespace]; uts != nil {
		if err := ck.host.setHostname(uts, s.c.pod.config.Hostname); err != nil {
			return err
		}
	}
	return ck.resume(s)
}

// runCRIU restores, and leaves the processes stopped.
func (ck *checkpoints) runCRIU(ctx context.Context, s *start, in oci.Container) (criu.Restored, error) {
	var none criu.Restored
	dir := ck.cfg.restoreBundle(s.c)
	if err := os.RemoveAll(dir); err != nil { // a first attempt's
		return none, fmt.Errorf("make bundle: %w", err)
	}
	images := filepath.Join(ck.cfg.restored(s.c.id), metadata.CheckpointDirectory)
	if err := ck.dropSharedIPC(s.c, images); err != nil {
		return none, err
	}
	bundle, err := ck.layOutRestore(dir, images, s, in)
	if err != nil {
		return none, err
	}
	defer bundle.close()
	restorer, err := ck.parts.CRIU.NewRestorer(ctx)
	if err != nil {
		return none, err
	}
	defer restorer.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return none, err
	}
	defer null.Close()
	// criu leaves a score of 0 as it inherited it.
	score := ck.parts.Programs.Clamp(s.spec.Process).OOMScoreAdj
	command := oci.Command{Env: runtimeEnv, Mounts: bundle.mounts, Cgroup: s.c.group, OOMScore: score}
	command.Args = restorer.Command(command.Give(restorer.Socket()))
	err = restorer.Begin(give(&command, s, in, null, criu.Restore{
		Images: images, Work: dir, Root: filepath.Join(dir, "rootfs"), Mounts: bundle.external, Join: map[string]string{}, Inherit: map[string]int{},
	}))
	if err != nil {
		return none, err
	}
	restored := s.tx.watch.lap("criu restore")
	err = ck.run(ctx, s, command)
	restored()
	if err != nil {
		return none, err
	}
	return restorer.Result()
}

// give gives criu's command what the restored processes share with others, and says so in r. Streams that the container doesn't have are null.
func give(command *oci.Command, s *start, in oci.Container, null *os.File, r criu.Restore) criu.Restore {
	for kind, f := range in.Namespaces {
		switch kind {
		case specs.NetworkNamespace:
			r.Inherit[criu.NetworkNamespace] = command.Give(f)
		case specs.IPCNamespace, specs.UTSNamespace:
			r.Join[procNamespaces[kind]] = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd())
		}
	}
	for i, f := range []*os.File{in.Stdin, in.Stdout, in.Stderr} {
		if f == nil {
			f = null
		}
		if name := s.c.record.Restore.Streams[i]; name != "" && r.Inherit[name] == 0 { // two may be one pipe
			r.Inherit[name] = command.Give(f)
		}
	}
	return r
}

// dropSharedIPC takes the System V objects out of a container's images that came into the pod with another of its checkpoints: all containers
// of a pod share them, and criu, which makes them in the namespace that it joins, fails when they are there.
func (ck *checkpoints) dropSharedIPC(c *container, images string) error {
	for _, other := range c.pod.list() {
		if rec := other.now(); other == c || rec.Restore == nil || rec.StartedAt.IsZero() {
			continue
		}
		for _, kind := range []string{"shm", "msg", "sem"} {
			found, err := filepath.Glob(filepath.Join(images, "ipcns-"+kind+"-*.img"))
			for _, path := range found {
				err = errors.Join(err, os.Remove(path))
			}
			if err != nil {
				return fmt.Errorf("leave out objects of the pod: %w", err)
			}
		}
		break
	}
	return nil
}

// resume lets the processes go on that criu left stopped.
func (ck *checkpoints) resume(s *start) error {
	pids, err := s.c.group.Processes()
	if err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	if err := ck.rescore(s, pids); err != nil {
		return err
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGCONT); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("resume process %d: %w", pid, err)
		}
	}
	return nil
}

// run has the keeper execute criu, and waits for its end.
func (ck *checkpoints) run(ctx context.Context, s *start, c oci.Command) error {
	l, err := ck.parts.Programs.PrepareCommand(c)
	if err != nil {
		return err
	}
	defer l.Close()
	key := runtimeKey("restore")
	ordered := launch.Now()
	proc, err := ck.parts.Keeper.Launch(ctx, keeper.Launch{Key: key, Program: l.Program, Files: l.Files, Oneshot: true, Timed: true})
	err = l.Explain(err)
	ck.programs.keepProgram(s.note(), l, ordered, proc, err)
	if err != nil {
		return err
	}
	p := newProcess(proc.PID, proc.PidFD)
	defer p.release()
	exit, err := ck.parts.Keeper.Wait(ctx, key)
	if err != nil {
		return errors.Join(context.Cause(ctx), err, p.killGroup())
	}
	if !exit.Known || exit.Status != 0 {
		return fmt.Errorf("it ended with status %#x", exit.Status)
	}
	return nil
}
