package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-runtime/berth/oci"
	"github.com/berth-runtime/berth/oci/launch"
	"github.com/berth-runtime/berth/sandbox/keeper"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// namespaces makes those of pods.
type namespaces struct {
	*base
	programs *keptPrograms
	spares   spares
	users    atomic.Bool // user namespaces were seen to work
}

// podNamespaces lists the namespaces that a pod has of its own, beside the PID one
// which comes with its pause process.
func podNamespaces(config *spec.Pod) []specs.LinuxNamespaceType {
	var kinds []specs.LinuxNamespaceType
	n := config.Security.Namespaces
	if n.OwnUser() != nil {
		kinds = append(kinds, specs.UserNamespace)
	}
	if n.Network != spec.NamespaceNode {
		kinds = append(kinds, specs.NetworkNamespace, specs.UTSNamespace)
	}
	if n.IPC != spec.NamespaceNode {
		kinds = append(kinds, specs.IPCNamespace)
	}
	return kinds
}

// makeNamespaces takes spare ones, or runs the program that makes a pod's. A keeper
// that dies meanwhile has a successor, and the program did nothing that lasts.
func (ns *namespaces) makeNamespaces(ctx context.Context, p *pod, kinds []specs.LinuxNamespaceType, watch *stopwatch) (map[specs.LinuxNamespaceType]*os.File, error) {
	if fitsSpare(p.config) {
		if spare := ns.spares.take(); spare != nil {
			return ns.dedicate(spare, p)
		}
	}
	namespaces, err := ns.tryNamespaces(ctx, p, kinds, watch)
	if errors.Is(err, keeper.ErrInterrupted) {
		return ns.tryNamespaces(ctx, p, kinds, watch)
	}
	return namespaces, err
}

func (ns *namespaces) tryNamespaces(ctx context.Context, p *pod, kinds []specs.LinuxNamespaceType, watch *stopwatch) (map[specs.LinuxNamespaceType]*os.File, error) {
	in := oci.Pod{Namespaces: kinds, Hostname: p.config.Hostname, Sysctls: p.config.Sysctls}
	if user := p.config.Security.Namespaces.OwnUser(); user != nil {
		in.UIDs, in.GIDs = linuxMappings(user.UIDs), linuxMappings(user.GIDs)
	}
	made, err := ns.launchNamespaces(ctx, namespacesKey+p.id, in, namespacesNote(p, watch))
	ns.programs.keep(made.program)
	return made.files, err
}

// namespacesNote has the program of a pod's namespaces kept with the pod.
func namespacesNote(p *pod, watch *stopwatch) *launchNote {
	return &launchNote{pod: p, name: namespacesProgram, what: fmt.Sprintf("pod: %s, %s: its namespaces", p.id, p.title()), watch: watch}
}

// userNamespace makes a user namespace for its mapping alone; the caller closes it.
func (ns *namespaces) userNamespace(ctx context.Context, uids, gids []specs.LinuxIDMapping) (*os.File, error) {
	kinds := []specs.LinuxNamespaceType{specs.UserNamespace}
	made, err := ns.launchNamespaces(ctx, namespacesKey+newID(), oci.Pod{Namespaces: kinds, UIDs: uids, GIDs: gids}, nil)
	return made.files[specs.UserNamespace], err
}

// namespacesKey begins the keys of processes that make namespaces.
const namespacesKey = "namespaces-"

// madeNamespaces are namespaces, and what there is to tell of their making, also of one that failed.
type madeNamespaces struct {
	files   map[specs.LinuxNamespaceType]*os.File
	program *freshProgram // nil: nobody will ask
}

func (m madeNamespaces) close() {
	for _, f := range m.files {
		f.Close()
	}
}

// launchNamespaces runs the program that makes namespaces.
func (ns *namespaces) launchNamespaces(ctx context.Context, key string, in oci.Pod, note *launchNote) (made madeNamespaces, err error) {
	parent, child, err := oci.SocketPair()
	if err != nil {
		return made, err
	}
	defer parent.Close()
	defer child.Close()
	in.Socket = child
	l, err := ns.parts.Programs.PreparePod(in)
	if err != nil {
		return made, err
	}
	defer l.Close()
	ordered := launch.Now()
	proc, err := ns.parts.Keeper.Launch(ctx, keeper.Launch{Key: key, Program: l.Program, Files: l.Files, Oneshot: true, Timed: note != nil})
	err = l.Explain(err)
	made.program = launched(note, l, ordered, proc, err)
	if err != nil {
		return made, err
	}
	proc.PidFD.Close()
	child.Close() // so that a program which sent nothing is an error, not a wait
	made.files, err = oci.ReceiveNamespaces(parent, in.Namespaces)
	return made, err
}

func linuxMappings(mappings []spec.IDMapping) []specs.LinuxIDMapping {
	var out []specs.LinuxIDMapping
	for _, m := range mappings {
		out = append(out, specs.LinuxIDMapping{ContainerID: m.ContainerID, HostID: m.HostID, Size: m.Length})
	}
	return out
}
