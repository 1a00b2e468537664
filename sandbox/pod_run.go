package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/oci/selinux"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// runTime bounds the set-up of a pod: kubelet waits for four minutes.
const runTime = 3 * time.Minute

// RunPod sets a pod up and returns its id. It needs a valid configuration
// (spec.ErrInvalid otherwise), which nobody changes afterwards, and leaves nothing
// behind when it fails.
//
// It may be called again: while the first call's work goes on, which a cancelled
// ctx does not end, and after it succeeded, a call with the same identity
// (spec.PodMetadata) gets the same id. ErrExists: that pod has another configuration.
func (ps *pods) RunPod(ctx context.Context, config *spec.Pod) (string, error) {
	if err := ps.checkPod(config); err != nil {
		return "", err
	}
	if err := ps.namespaces.checkUsers(ctx, config); err != nil {
		return "", err
	}
	id, err := ps.tasks.do(ctx, fmt.Sprintf("run pod %#v", config.Metadata), runTime, func(ctx context.Context) (string, error) {
		if p := ps.index.ready(config.Metadata); p != nil {
			return p.id, nil
		}
		return ps.runPod(ctx, config)
	})
	if err == nil {
		err = ps.sameAs(id, config)
	}
	if err != nil {
		return "", fmt.Errorf("run pod %s/%s: %w", config.Metadata.Namespace, config.Metadata.Name, err)
	}
	return id, nil
}

// sameAs refuses a configuration that is another than that of the pod which has its identity. One that has
// gone meanwhile was what the caller asked for.
func (ps *pods) sameAs(id string, config *spec.Pod) error {
	p, err := ps.index.pod(id)
	if err != nil || p.config == config {
		return nil
	}
	if other := p.config.Difference(config); len(other) > 0 {
		return fmt.Errorf("attempt %d is pod %s, whose %s differ: %w", config.Metadata.Attempt, id, strings.Join(other, ", "), ErrExists)
	}
	return nil
}

// checkPod is what is known to be wrong before anything is done.
func (ps *pods) checkPod(config *spec.Pod) error {
	if err := config.Validate(); err != nil {
		return err
	}
	if err := ps.runtimes.checkRuntime(config); err != nil {
		return err
	}
	if _, err := ps.cfg.cgroup(config, "x"); err != nil {
		return &spec.FieldError{Field: "linux.cgroup_parent", Value: config.CgroupParent, Rule: err.Error()}
	}
	return nil
}

// newID makes the id of a pod or container: 64 hexadecimal digits, as cAdvisor
// wants them.
func newID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails, says crypto/rand
	return hex.EncodeToString(b[:])
}

// podRun is the set-up of one pod.
type podRun struct {
	pods *pods
	p    *pod
	tx   transaction
	ips  []netip.Addr
}

func (ps *pods) runPod(ctx context.Context, config *spec.Pod) (string, error) {
	start := time.Now()
	id := newID()
	rec := podRecord{Version: recordVersion, ID: id, Boot: ps.boot, State: podCreating, Config: config, CreatedAt: start}
	if config.Security.Namespaces.Network != spec.NamespaceNode {
		rec.NetNS = ps.cfg.netNS(id)
	}
	labels, err := ps.podLabels(config)
	if err != nil {
		return "", err
	}
	if labels != (selinux.Labels{}) {
		rec.SELinux = &labels
	}
	r := &podRun{pods: ps, p: newPod(ps.tasks.base, rec), tx: transaction{watch: startWatch()}}
	ps.index.addPod(r.p)
	if err := r.up(ctx); err != nil {
		return "", errors.Join(err, r.down(ctx))
	}
	ps.log.WithFields(logrus.Fields{"pod": id, "took": time.Since(start)}).Info("pod runs")
	ps.stocks.ran(config)
	return id, nil
}

// up does the steps, and commits.
func (r *podRun) up(ctx context.Context) error {
	if err := r.tx.sequence(ctx, r.intend(), r.makeNamespaces(podNamespaces(r.p.config))); err != nil {
		return err
	}
	// The network takes longest.
	if err := r.tx.parallel(ctx, []step{r.attach()}, []step{r.prepareFiles(), r.hold(), r.makeLogDirectory()}); err != nil {
		return err
	}
	if err := r.tx.run(ctx, r.writeHosts()); err != nil {
		return err
	}
	if sharesPIDs(r.p.config) {
		if err := r.tx.run(ctx, r.startPause()); err != nil {
			return err
		}
	}
	// Before the commit: a pod that others see may be removed, and what was kept of it with it.
	r.pods.programs.keep(&freshProgram{note: &launchNote{pod: r.p, name: runTimeline, watches: map[string]*stopwatch{"run": r.tx.watch}}})
	leave, any := r.pods.plugins.enter()
	defer leave()
	if any {
		if err := r.tx.run(ctx, r.tellPlugins()); err != nil {
			return err
		}
	}
	return r.tx.run(ctx, r.commit())
}

// tellPlugins shows plugins the pod as it will be. The caller has entered.
func (r *podRun) tellPlugins() step {
	rec := r.p.record
	rec.State, rec.IPs = PodReady, r.ips
	return step{
		name: "tell plugins",
		do: func(ctx context.Context) error {
			if err := r.pods.parts.Plugins.Pod(ctx, PluginRun, rec.info()); err != nil {
				return fmt.Errorf("%w: %v", ErrRefused, err)
			}
			return nil
		},
		undo: func(ctx context.Context) error {
			rec.State = PodNotReady
			r.pods.plugins.pod(ctx, PluginRemove, rec)
			return nil
		},
	}
}

// down undoes the steps. What can't be undone leaves a pod that clients see and
// stop again.
func (r *podRun) down(ctx context.Context) error {
	err := r.tx.rollback(ctx)
	if err == nil {
		err = r.pods.forgetPod(r.p)
	}
	if err != nil {
		return errors.Join(err, r.pods.movePod(r.p, podBroken, nil))
	}
	r.pods.index.removePod(r.p)
	return r.pods.movePod(r.p, podAbort, nil)
}

func (r *podRun) intend() step {
	return step{name: "record the pod", do: func(context.Context) error {
		return r.pods.records.putPod(&r.p.record)
	}}
}

func (r *podRun) prepareFiles() step {
	return step{
		name: "prepare files",
		do: func(context.Context) (err error) {
			if err := writePodFiles(r.pods.cfg.podFiles(r.p.id), r.p.config); err != nil {
				return err
			}
			if err := errors.Join(r.pods.labelPodFile(r.p, hostnameFile), r.pods.labelPodFile(r.p, resolvConfFile)); err != nil {
				return err
			}
			if r.p.config.Security.Namespaces.IPC == spec.NamespaceNode {
				return nil
			}
			r.p.shm, err = r.pods.host.shm(r.pods.cfg.ShmSize, r.p.config.Security.Namespaces.OwnUser(), r.p.labels.File)
			return err
		},
		undo: func(context.Context) error { return r.p.release() },
	}
}

// makeLogDirectory makes the pod's log directory, if kubelet has not: its containers' starts needn't. What isn't empty
// stays, as logs do.
func (r *podRun) makeLogDirectory() step {
	dir, made := r.p.config.LogDirectory, false
	return step{
		name: "make the log directory",
		do: func(context.Context) error {
			if dir == "" {
				return nil
			}
			err := os.Mkdir(dir, logDirectoryMode)
			made = err == nil || errors.Is(err, fs.ErrNotExist)
			if err != nil {
				err = os.MkdirAll(dir, logDirectoryMode) // which takes a directory that is there
			}
			return inTheWay(err)
		},
		undo: func(context.Context) error {
			if made {
				_ = os.Remove(dir) // not empty: another's
			}
			return nil
		},
	}
}

func (r *podRun) makeNamespaces(kinds []specs.LinuxNamespaceType) step {
	return step{
		name: "make namespaces",
		do: func(ctx context.Context) (err error) {
			if len(kinds) == 0 {
				return nil
			}
			if r.p.namespaces, err = r.pods.namespaces.makeNamespaces(ctx, r.p, kinds, r.tx.watch); err != nil {
				return err
			}
			if ns := r.p.namespaces[specs.NetworkNamespace]; ns != nil {
				return r.pods.host.pin(ns, r.p.record.NetNS)
			}
			return nil
		},
		undo: func(ctx context.Context) error { return r.pods.unpin(&r.p.record) },
	}
}

// sharesPIDs says whether the pod's containers share a PID namespace.
func sharesPIDs(config *spec.Pod) bool {
	return config.Security.Namespaces.PID == spec.NamespacePod
}

// heldShm is the name of /dev/shm among the descriptors that the keeper holds for
// a pod; the others are named as their kind of namespace.
const heldShm = "shm"

// hold gives the keeper duplicates, so that the pod outlives the daemon.
func (r *podRun) hold() step {
	return step{
		name: "hand descriptors to the keeper",
		do: func(ctx context.Context) error {
			files := map[string]*os.File{}
			for kind, f := range r.p.namespaces {
				files[string(kind)] = f
			}
			if r.p.shm != nil {
				files[heldShm] = r.p.shm
			}
			if len(files) == 0 {
				return nil
			}
			return r.pods.parts.Keeper.Hold(ctx, podKey(r.p.id), files)
		},
		undo: func(ctx context.Context) error { return r.pods.parts.Keeper.Forget(ctx, podKey(r.p.id)) },
	}
}

func podKey(id string) string   { return "pod-" + id }
func pauseKey(id string) string { return "pause-" + id }

// attach gives the pod an address.
func (r *podRun) attach() step {
	return step{
		name: "attach to the network",
		do: func(ctx context.Context) error {
			if r.p.record.NetNS != "" {
				if err := r.pods.awaitSweep(ctx); err != nil {
					return err
				}
			}
			ips, err := r.pods.attach(ctx, &r.p.record)
			if err != nil {
				return err
			}
			r.ips = ips
			return nil
		},
		undo: func(ctx context.Context) error { return r.pods.detach(ctx, &r.p.record) },
	}
}

// writeHosts makes the hosts file, which has the pod's address.
func (r *podRun) writeHosts() step {
	return step{name: "write the hosts file", do: func(context.Context) error {
		if err := writeHosts(r.pods.cfg.podFiles(r.p.id), r.p.config, r.ips); err != nil {
			return err
		}
		return r.pods.labelPodFile(r.p, hostsFile)
	}}
}

// commit makes the pod ready, on disk and for all to see. Nothing that can fail
// comes after it.
func (r *podRun) commit() step {
	return step{name: "record the pod", do: func(context.Context) error {
		return r.pods.movePod(r.p, podCommit, func(rec *podRecord) { rec.IPs = r.ips })
	}}
}
