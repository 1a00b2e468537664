package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-runtime/berth/oci"
	"github.com/berth-runtime/berth/oci/launch"
	"github.com/berth-runtime/berth/sandbox/keeper"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// startPause starts PID 1 of a pod whose containers share a PID namespace: the
// only case in which a pod has a process that is not a container's.
func (r *podRun) startPause() step {
	return step{
		name: "start the pause process",
		do: func(ctx context.Context) error {
			if r.p.namespaces == nil {
				r.p.namespaces = map[specs.LinuxNamespaceType]*os.File{}
			}
			proc, err := r.pods.startPause(ctx, r.p, r.tx.watch)
			if err != nil {
				return err
			}
			r.p.pause = proc
			r.p.firstPID.Store(int64(proc.pid))
			ns, err := r.pods.host.namespace(proc, specs.PIDNamespace)
			if err != nil {
				return err
			}
			r.p.namespaces[specs.PIDNamespace] = ns
			return nil
		},
		undo: func(ctx context.Context) error { return r.pods.stopPause(ctx, r.p) },
	}
}

func (ps *pods) startPause(ctx context.Context, p *pod, watch *stopwatch) (*process, error) {
	path, err := ps.cfg.cgroup(p.config, p.id)
	if err != nil {
		return nil, err
	}
	group, err := ps.host.createCgroup(path, nil)
	if err != nil {
		return nil, err
	}
	binary, err := ps.host.pauseBinary()
	if err != nil {
		return nil, err
	}
	l, err := ps.parts.Programs.PreparePause(oci.Pause{Namespaces: p.namespaces, Binary: binary, Cgroup: group, IDs: idCount(p.config)})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	ordered := launch.Now()
	proc, err := ps.parts.Keeper.Launch(ctx, keeper.Launch{Key: pauseKey(p.id), Program: l.Program, Files: l.Files, Timed: true})
	err = l.Explain(err)
	note := &launchNote{pod: p, name: pauseProgram, what: fmt.Sprintf("pod: %s, %s: PID 1 of its PID namespace", p.id, p.title()), watch: watch}
	ps.programs.keepProgram(note, l, ordered, proc, err)
	if err != nil {
		return nil, err
	}
	return newProcess(proc.PID, proc.PidFD), nil
}

// idCount is how many ids, from 0 on, a pod's user namespace maps; 0: it has none.
func idCount(config *spec.Pod) uint32 {
	user := config.Security.Namespaces.OwnUser()
	if user == nil {
		return 0
	}
	return min(user.UIDs[0].Length, user.GIDs[0].Length) // Validate: one mapping each, from 0 on
}

// stopPause ends the pause process and frees what it had. It is content when
// there is none.
func (ps *pods) stopPause(ctx context.Context, p *pod) error {
	if !sharesPIDs(p.config) {
		return nil
	}
	path, err := ps.cfg.cgroup(p.config, p.id)
	if err != nil {
		return err
	}
	if p.pause != nil {
		// The kernel kills all else in its namespace with it.
		if err := p.pause.signal(killSignal); err != nil {
			return err
		}
		waiting, cancel := context.WithTimeoutCause(ctx, killTime, errStillAlive)
		defer cancel()
		if err := p.pause.wait(waiting); err != nil {
			return fmt.Errorf("kill the pause process: %w", err)
		}
	}
	return errors.Join(
		ps.host.killCgroup(ctx, path),
		ps.host.deleteCgroup(ctx, path),
		ps.parts.Keeper.Forget(ctx, pauseKey(p.id)),
	)
}
