package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// details tells what only those want to know who look closely: nothing here is kept ready.
type details struct {
	*base
	builder  *specBuilder
	programs *keptPrograms
}

// ContainerDetails is what is known of a container beyond its ContainerInfo.
type ContainerDetails struct {
	Spec        *specs.Spec // what it was, or is to be, started with; nobody may change it. nil: NoSpec says why
	NoSpec      error       // what it needs is gone from the node since another daemon made it
	SnapshotKey string      // of its root file system, in the image store
	Handler     string      // of its pod: the name of a RuntimeClass's handler
	Runtime     string      // path of the OCI runtime that made it; "" for berth's own executor
	// Namespaces are paths by kind, of a running container; those of the host are left out.
	Namespaces map[specs.LinuxNamespaceType]string
	// Times are timelines: "create", and "start" once it has been started. They may be lost, with the
	// daemon that brought it up.
	Times map[string][]Moment
	Began map[string]time.Time // when each of Times did; empty before the start
}

// PodDetails is what is known of a pod beyond its PodInfo.
type PodDetails struct {
	PID        int    // of PID 1 of a PID namespace that its containers share; 0: it has none
	Handler    string // as ContainerDetails.Handler
	Runtime    string // as ContainerDetails.Runtime
	Files      string // the directory of what is mounted in its containers: hosts, hostname, resolv.conf
	Namespaces map[specs.LinuxNamespaceType]string
	Times      map[string][]Moment  // "run"
	Began      map[string]time.Time // as ContainerDetails.Began
}

// ContainerDetails returns the details of a container.
func (d *details) ContainerDetails(id string) (*ContainerDetails, error) {
	c, err := d.index.container(id)
	if err != nil {
		return nil, err
	}
	out := &ContainerDetails{SnapshotKey: c.id, Handler: handlerOf(c.pod.config), Runtime: d.runtimePath(c.pod.config)}
	out.Spec, out.NoSpec = d.builder.specOf(c)
	if out.Times, out.Began, err = d.times(c.pod, c.id); err != nil {
		return nil, fmt.Errorf("container %s: %w", c.id, err)
	}
	if out.Times == nil && c.created != nil { // not started yet
		out.Times = map[string][]Moment{"create": c.created.timeline()}
	}
	if proc := c.running(); proc != nil {
		defer proc.release()
		if out.Spec == nil {
			return out, nil
		}
		out.Namespaces = map[specs.LinuxNamespaceType]string{}
		for _, ns := range out.Spec.Linux.Namespaces {
			out.Namespaces[ns.Type] = namespacePath(proc.pid, ns.Type)
		}
	}
	return out, nil
}

// PodDetails returns the details of a pod.
func (d *details) PodDetails(id string) (*PodDetails, error) {
	p, err := d.index.pod(id)
	if err != nil {
		return nil, err
	}
	out := &PodDetails{Handler: handlerOf(p.config), Runtime: d.runtimePath(p.config), Files: d.cfg.podFiles(p.id), Namespaces: map[specs.LinuxNamespaceType]string{}}
	if out.Times, out.Began, err = d.times(p, runTimeline); err != nil {
		return nil, fmt.Errorf("pod %s: %w", p.id, err)
	}
	if p.state() != PodReady {
		return out, nil
	}
	if info := p.info.Load(); info != nil && info.NetNS != "" {
		out.Namespaces[specs.NetworkNamespace] = info.NetNS
	}
	if out.PID = int(p.firstPID.Load()); out.PID == 0 {
		return out, nil // the others are nowhere but in descriptors
	}
	for _, kind := range append(podNamespaces(p.config), specs.PIDNamespace) {
		if out.Namespaces[kind] == "" && kind != specs.UserNamespace { // whose it is is its parent's
			out.Namespaces[kind] = namespacePath(out.PID, kind)
		}
	}
	return out, nil
}

func namespacePath(pid int, kind specs.LinuxNamespaceType) string {
	return fmt.Sprintf("/proc/%d/ns/%s", pid, procNamespaces[kind])
}

func handlerOf(config *spec.Pod) string { return cmp.Or(config.RuntimeHandler, Handler) }

func (d *details) runtimePath(config *spec.Pod) string {
	return d.cfg.Runtimes[config.RuntimeHandler].Path
}

// times are the timelines that are kept under a name, and when each began; nil when nothing is.
func (d *details) times(p *pod, name string) (map[string][]Moment, map[string]time.Time, error) {
	kept, err := d.programs.readProgram(p, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	return kept.Times, kept.Began, err
}
