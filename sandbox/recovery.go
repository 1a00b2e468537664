package sandbox

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/sandbox/keeper"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// recovery is the start of a daemon that finds what an earlier one left.
//
//	records ─┐
//	keeper ──┼─ one pod each ─▶ taken over: ready, with its containers as they are
//	kernel ──┘                  ended:      not ready; what it had is freed
//	                            undone:     half set up, half removed, or torn: nothing is left
//	                            unread:     the disk fails: left alone, all that may be its, until a next start reads it
//
// What takes time (freeing, and sweeping what no pod and no container has) goes
// on when Open has returned. What clients see is right from the start.
type recovery struct {
	m     *Manager
	start time.Time

	mu   sync.Mutex // guards kept: what nobody takes is left over
	kept map[string]keeper.Kept
}

// readers is how many pods are read at once.
const readers = 16

func (m *Manager) recover() error {
	r := &recovery{m: m, start: time.Now(), kept: map[string]keeper.Kept{}}
	for _, k := range m.parts.Keeper.Kept() {
		r.kept[k.Key] = k
	}
	r.endCommands()
	ids, err := m.records.podIDs()
	if err != nil {
		return err
	}
	errs := make([]error, len(ids))
	var wg sync.WaitGroup
	limit := make(chan struct{}, readers)
	for i, id := range ids {
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			errs[i] = guarded(func() error {
				saved, err := m.records.load(id)
				if err == nil {
					r.pod(saved)
				}
				return err
			})
			tellPanic(m.log, "take pod "+id+" over", errs[i])
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			m.log.WithFields(logrus.Fields{"pod": ids[i], "error": err}).Error("pod record not read, left alone until the next start")
			m.unread = append(m.unread, ids[i])
		}
	}
	m.log.WithFields(logrus.Fields{"op": "recover", "took": time.Since(r.start)}).Info("pods taken over")
	m.tasks.goes(r.sweep)
	return nil
}

// endCommands kills what an earlier daemon has had other runtimes and criu do: it waited for that, and who takes over has it done anew. The sweep,
// which comes later, has the keeper forget it.
func (r *recovery) endCommands() {
	for key, k := range r.kept {
		if k.PidFD == nil || !strings.HasPrefix(key, runtimeKeys) {
			continue
		}
		if err := newProcess(k.PID, k.PidFD).killTree(r.m.tasks.base); err != nil { // the descriptor is the sweep's to close
			r.m.log.WithFields(logrus.Fields{"pid": k.PID, "op": key, "error": err}).Warn("command of an earlier daemon's not killed")
		}
	}
}

// take returns what the keeper keeps under a key.
func (r *recovery) take(key string) (k keeper.Kept, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, ok = r.kept[key]
	delete(r.kept, key)
	return k, ok
}

// pod takes over one pod.
func (r *recovery) pod(saved *savedPod) {
	rec := saved.record
	torn := rec == nil
	if torn {
		rec = r.unreadable(saved.id)
	}
	p := newPod(r.m.tasks.base, *rec)
	r.m.selinux.Keep(p.labels)
	lost := r.descriptors(p)
	var work []func(context.Context) error // in the background, in order
	for _, s := range saved.containers {
		if f := r.container(p, s); f != nil {
			work = append(work, f)
		}
	}
	switch {
	case rec.State == podCreating:
		work = []func(context.Context) error{func(ctx context.Context) error { return r.undo(ctx, p, torn) }}
	case rec.State == podRemoving:
		work = []func(context.Context) error{func(ctx context.Context) error { return r.m.pods.removePod(ctx, p) }}
	case rec.State == podStopping, rec.State == PodReady && lost != nil:
		// Not ready for anyone from now on; the record follows when the stop is done.
		p.record.State = podStopping
		p.publish()
		work = append(work, func(ctx context.Context) error { return r.m.pods.stopPod(ctx, p) })
	}
	if lost != nil && rec.State == PodReady {
		r.m.log.WithFields(logrus.Fields{"pod": p.id, "error": lost}).Warn("pod does not live any more")
	}
	p.gather()
	r.m.index.addPod(p)
	if len(work) > 0 {
		r.m.tasks.goes(func(ctx context.Context) { r.finish(ctx, p, work) })
	}
}

// unreadable is what is known of a pod or container whose record is torn: enough
// to free all that it could have.
func (r *recovery) unreadable(podID string) *podRecord {
	r.m.log.WithFields(logrus.Fields{"pod": podID}).Warn("pod record is torn, cleaning up")
	return &podRecord{Version: recordVersion, ID: podID, State: podCreating, Config: &spec.Pod{}, NetNS: r.m.cfg.netNS(podID)}
}

// finish does what an earlier daemon did not come to do.
func (r *recovery) finish(ctx context.Context, p *pod, work []func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, stopPodTime)
	defer cancel()
	for _, f := range work {
		if err := f(ctx); err != nil {
			r.m.log.WithFields(logrus.Fields{"pod": p.id, "op": "recover", "error": err}).Error("pod not cleaned up")
		}
	}
}

// undo takes back a set-up that an earlier daemon began, and all that a torn
// record could have stood for. What fails is seen by clients, so that they stop
// the pod again; of a torn one there is nothing to show.
func (r *recovery) undo(ctx context.Context, p *pod, torn bool) error {
	leave, err := p.take(ctx)
	if err != nil {
		return err
	}
	defer leave()
	errs := []error{r.m.pods.teardown(ctx, p)}
	for _, c := range p.list() {
		errs = append(errs, r.m.containers.discard(ctx, c))
	}
	err = errors.Join(errs...)
	if err == nil {
		err = r.m.pods.forgetPod(p)
	}
	if err != nil && torn {
		return err
	}
	if err != nil {
		return errors.Join(err, r.m.movePod(p, podBroken, nil))
	}
	r.m.index.removePod(p)
	return r.m.movePod(p, podAbort, nil)
}

// sweep frees what belongs to nobody.
func (r *recovery) sweep(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stopPodTime)
	defer cancel()
	r.sweepNetwork(ctx)
	r.sweepKeeper(ctx)
	r.sweepSnapshots(ctx)
}

// sweepNetwork frees addresses. New pods wait for it, or it would take theirs.
func (r *recovery) sweepNetwork(ctx context.Context) {
	defer close(r.m.swept)
	var valid []string
	for _, p := range r.m.index.allPods() {
		valid = append(valid, p.id)
	}
	valid = append(valid, r.m.unread...)
	if err := r.m.parts.Network.GC(ctx, valid); err != nil {
		r.m.log.WithFields(logrus.Fields{"op": "sweep", "error": err}).Warn("network not swept")
	}
}

// sweepKeeper ends processes of execs and of pods that are gone. While a pod is
// unread nobody knows which of them are its: all are left to the keeper.
func (r *recovery) sweepKeeper(ctx context.Context) {
	for key, k := range r.kept {
		for _, f := range k.Files {
			f.Close()
		}
		if len(r.m.unread) > 0 {
			if k.PidFD != nil {
				k.PidFD.Close()
			}
			continue
		}
		if k.PidFD != nil {
			proc := newProcess(k.PID, k.PidFD)
			if err := proc.signal(killSignal); err != nil {
				r.m.log.WithFields(logrus.Fields{"pid": k.PID, "error": err}).Warn("process of nobody's not killed")
			}
			proc.release()
		}
		r.m.forget(ctx, key)
	}
}

// sweepSnapshots removes root file systems without a container, and what a
// container whose record is lost may have beside. Those of containers that are
// made meanwhile are known before they exist. While a pod is unread they may be its.
func (r *recovery) sweepSnapshots(ctx context.Context) {
	if len(r.m.unread) > 0 {
		return
	}
	r.m.sweepCheckpoints()
	keys, err := r.m.parts.Images.Snapshots()
	if err != nil {
		r.m.log.WithFields(logrus.Fields{"op": "sweep", "error": err}).Warn("snapshots not swept")
	}
	for _, key := range keys {
		owner, _, _ := strings.Cut(key, "-")
		if r.m.index.exactly(owner) != nil || ctx.Err() != nil {
			continue
		}
		if err := r.sweepSnapshot(ctx, key); err != nil {
			r.m.log.WithFields(logrus.Fields{"container": key, "error": err}).Warn("snapshot of nobody's not removed")
		}
	}
}

func (r *recovery) sweepSnapshot(ctx context.Context, key string) error {
	// Of its pod nothing is known: the cgroup is looked for where those are that name no parent.
	group, err := r.m.cfg.cgroup(&spec.Pod{}, key)
	if err == nil {
		err = r.m.freeCgroup(ctx, group)
	}
	return errors.Join(err, r.m.parts.Images.RemoveSnapshot(key))
}
