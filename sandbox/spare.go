package sandbox

import (
	"context"
	"os"
	"sync"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/oci"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// spareAge is how long spare namespaces wait for a pod: pods come in numbers, and a node where none come keeps nothing. It also
// bounds how old the settings of the host are that a new network namespace begins with (net.core.devconf_inherit_init_net).
const spareAge = time.Minute

// spares keeps one set of namespaces ready for the next pod, made after the one before it was set up (stocks): that takes half the
// time of a pod's set-up, and nothing in it but a hostname depends on the pod.
//
//	a pod was set up ─▶ make ─▶ offer ─▶ the next pod takes it
//	                      │       └────▶ close, after spareAge or when the manager ends
//	                      └─ an error: the next pod makes its own, and meets it
//
// The zero value has none.
type spares struct {
	mu    sync.Mutex
	busy  bool            // a set is being made, or there
	made  *madeNamespaces // ready to be taken
	taken chan struct{}   // closed when made was
}

// begin says whether the caller is to make a set; end that it has none after all.
func (s *spares) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.busy
	s.busy = true
	return !was
}

func (s *spares) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = false
}

// take gets what is ready, which is the caller's to close, or nil.
func (s *spares) take() *madeNamespaces {
	s.mu.Lock()
	defer s.mu.Unlock()
	made := s.made
	if made != nil {
		close(s.taken)
		s.made, s.busy = nil, false
	}
	return made
}

// offer has a set that the caller began to make taken, or closes it: when ctx ends, at the latest after spareAge.
func (s *spares) offer(ctx context.Context, made *madeNamespaces) {
	taken := make(chan struct{})
	s.mu.Lock()
	s.made, s.taken = made, taken
	s.mu.Unlock()
	old := time.NewTimer(spareAge)
	defer old.Stop()
	select {
	case <-taken:
		return
	case <-old.C:
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made == made { // nobody came in the last moment
		made.close()
		s.made, s.busy = nil, false
	}
}

// spareKinds are the namespaces of a spare set.
var spareKinds = []specs.LinuxNamespaceType{specs.NetworkNamespace, specs.UTSNamespace, specs.IPCNamespace}

// fitsSpare says whether spare namespaces are what a pod would get: those that belong to a user namespace, and those with
// settings of their own, are made for it.
func fitsSpare(config *spec.Pod) bool {
	n := config.Security.Namespaces
	return n.OwnUser() == nil && n.Network != spec.NamespaceNode && len(config.Sysctls) == 0 && config.Hostname != ""
}

// restock makes spare namespaces behind the caller's back, unless there are some.
func (ns *namespaces) restock() {
	if !ns.cfg.SpareNamespaces || !ns.spares.begin() {
		return
	}
	started := ns.tasks.goes(func(ctx context.Context) { // ends when they are taken, at the latest spareAge from now
		// Close doesn't break this off: a keeper that has a process yet does not end with its daemon.
		key := namespacesKey + newID()
		made, err := ns.launchNamespaces(ctx, key, oci.Pod{Namespaces: spareKinds}, &launchNote{})
		if err == nil {
			_, err = ns.parts.Keeper.Wait(ctx, key)
		}
		if err != nil {
			made.close()
			ns.log.WithFields(logrus.Fields{"op": "make spare namespaces", "error": err}).Debug("no spare namespaces")
			ns.spares.end()
			return
		}
		ns.spares.offer(ns.closing, &made)
	})
	if !started {
		ns.spares.end()
	}
}

// dedicate makes spare namespaces a pod's.
func (ns *namespaces) dedicate(spare *madeNamespaces, p *pod) (map[specs.LinuxNamespaceType]*os.File, error) {
	if err := ns.host.setHostname(spare.files[specs.UTSNamespace], p.config.Hostname); err != nil {
		spare.close()
		return nil, err
	}
	if p.config.Security.Namespaces.IPC == spec.NamespaceNode {
		spare.files[specs.IPCNamespace].Close()
		delete(spare.files, specs.IPCNamespace)
	}
	note := namespacesNote(p, nil)
	note.what += ", made before it was asked for"
	spare.program.note = note
	ns.programs.keep(spare.program)
	return spare.files, nil
}
