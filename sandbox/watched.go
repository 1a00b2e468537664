package sandbox

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// Watched is a pod or container as it is shown to those that watch cgroups and ask whose they are.
type Watched struct {
	ID        string
	Labels    map[string]string // with the names that kubelet looks for
	Image     string            // "": a pod
	CreatedAt time.Time
	PID       int   // of a process of it; a pod's is in its network namespace. 0: none yet, or not any more
	Exited    bool  // it runs no more
	ExitCode  int32 // of what has exited
}

// What kubelet calls pods and containers (pkg/kubelet/types/labels.go), and containerd's word for which of both it is.
const (
	labelPodName       = "io.kubernetes.pod.name"
	labelPodNamespace  = "io.kubernetes.pod.namespace"
	labelPodUID        = "io.kubernetes.pod.uid"
	labelContainerName = "io.kubernetes.container.name"
	labelKind          = "io.cri-containerd.kind"
)

// watched answers those who watch cgroups: cAdvisor in kubelet finds each container by its cgroup's name, and takes a pod's network
// from a process that it is told of. A pod that shares no PID namespace has no process and no cgroup of its own; so it is given
// a cgroup, empty, beside those of its containers, and the process is a container's. cAdvisor asks once, when
// the cgroup appears: when that process ends the cgroup is made anew.
type watched struct {
	*base

	mu   sync.Mutex
	pids map[string]int // by pod: what its cgroup was made for
}

// Watched finds a pod or container by its full id, also one that is being made: its cgroup may be seen before it is
// listed. Errors: ErrNotFound.
func (w *watched) Watched(id string) (*Watched, error) {
	if c := w.index.exactly(id); c != nil {
		return c.watched(), nil
	}
	p, err := w.index.pod(id)
	if err != nil || p.id != id {
		return nil, notFound("pod or container", id)
	}
	rec := p.now()
	out := &Watched{ID: id, CreatedAt: rec.CreatedAt, Labels: watchedLabels(rec.Config.Labels, rec.Config.Metadata, "sandbox"), PID: int(p.firstPID.Load())}
	if out.PID == 0 {
		w.mu.Lock()
		out.PID = w.pids[id]
		w.mu.Unlock()
	}
	out.Exited = rec.State != PodReady
	return out, nil
}

func (c *container) watched() *Watched {
	rec := c.now()
	out := &Watched{ID: rec.ID, CreatedAt: rec.CreatedAt, Image: rec.Image.Name, Labels: watchedLabels(rec.Config.Labels, c.pod.config.Metadata, "container")}
	if out.Image == "" {
		out.Image = rec.Image.ID
	}
	if _, ok := out.Labels[labelContainerName]; !ok {
		out.Labels[labelContainerName] = rec.Config.Metadata.Name
	}
	if rec.State == ContainerRunning {
		out.PID = rec.PID
	}
	out.Exited, out.ExitCode = rec.State == ContainerExited, rec.ExitCode
	return out
}

// watchedLabels are a pod's or container's own, and what is missing of the pod's name.
func watchedLabels(own map[string]string, pod spec.PodMetadata, kind string) map[string]string {
	out := map[string]string{labelPodName: pod.Name, labelPodNamespace: pod.Namespace, labelPodUID: pod.UID}
	maps.Copy(out, own)
	out[labelKind] = kind
	return out
}

// follow gives pods their cgroups until ctx ends.
func (w *watched) follow(ctx context.Context) {
	for errors.Is(w.followOnce(ctx), ErrLagging) {
	}
}

func (w *watched) followOnce(ctx context.Context) error {
	l := w.events.listen() // before the list, so that nothing is missed between
	defer w.events.leave(l)
	ready := PodReady
	for _, p := range w.Pods(PodFilter{State: &ready}) {
		w.look(ctx, p.ID)
	}
	return w.pass(ctx, l, func(e *Event) error {
		if e.ID != e.Pod.ID && (e.Kind == EventStarted || e.Kind == EventStopped) {
			w.look(ctx, e.Pod.ID)
		}
		return nil
	})
}

// look makes a pod's cgroup what it should be now.
func (w *watched) look(ctx context.Context, id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	info, containers, err := w.Pod(id)
	if err != nil || info.State != PodReady || info.NetNS == "" || sharesPIDs(info.Config) {
		return // what it had goes with its teardown
	}
	was, now := w.pids[id], 0
	for _, c := range containers {
		if c.State == ContainerRunning && (now == 0 || c.PID == was) {
			now = c.PID
		}
	}
	if now == was {
		return
	}
	path, err := w.cfg.cgroup(info.Config, id)
	if err == nil {
		err = w.host.deleteCgroup(ctx, path)
	}
	delete(w.pids, id)
	if err == nil && now != 0 {
		w.pids[id] = now // before it can be seen
		err = w.host.markCgroup(path)
	}
	if err != nil {
		w.log.WithField("pod", id).WithField("op", "show cgroup").WithError(err).Warn("cAdvisor does not see the pod's network")
	}
}

// leave takes away what look made. The pod is ready no more: look makes it no other.
func (w *watched) leave(ctx context.Context, rec *podRecord) error {
	if !w.cfg.ShowPods {
		return nil
	}
	path, err := w.cfg.cgroup(rec.Config, rec.ID)
	if err != nil {
		return nil // a pod that isn't known enough to have had one
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.pids, rec.ID)
	return w.host.deleteCgroup(ctx, path)
}
