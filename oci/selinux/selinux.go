// Package selinux chooses the SELinux labels of pods and containers, and labels the host's files that they are to
// use. It confines nothing itself: a program writes the label before its execve, and mounts carry theirs.
//
// Which types containers have is the policy's to say (lxc_contexts, or /usr/share/containers/selinux/contexts, as
// for other runtimes). Pods are kept apart by a level with a pair of categories ("s0:c12,c745") that no other pod
// has, and that is given back when the pod is removed.
package selinux

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/opencontainers/selinux/go-selinux"
	"github.com/opencontainers/selinux/go-selinux/label"
)

// Why there are no labels, and what can be wrong with one that is asked for.
var (
	// ErrOff: the kernel has no SELinux, or no policy is loaded.
	ErrOff = errors.New("SELinux is not enabled")
	// ErrNoContainers: the node's policy has no types for containers, so that no label can be derived.
	ErrNoContainers = errors.New("the node's SELinux policy has no contexts for containers")
	// ErrRefused: the kernel's policy has no such user, role, type or level, or not together.
	ErrRefused = errors.New("not a label of the node's SELinux policy")
)

// Options are the parts of a label that a client asks for; what is empty is the policy's or the pod's.
type Options struct{ User, Role, Type, Level string }

// Labels are those of a pod or container: of its processes and of its files. Both empty: none.
type Labels struct {
	Process string `json:"process,omitempty"`
	File    string `json:"file,omitempty"`
}

// Host is this node's SELinux; the zero value is ready. It counts who has which level, and so there is one of it.
type Host struct {
	mu     sync.Mutex
	levels map[string]int
}

// Enabled says whether the kernel has SELinux, and a policy is loaded.
func (h *Host) Enabled() bool { return selinux.GetEnabled() }

// Ready is nil when containers get labels, else ErrOff or ErrNoContainers.
func (h *Host) Ready() error {
	if !h.Enabled() {
		return ErrOff
	}
	process, _, err := h.contexts()
	if err == nil && process == "" {
		err = ErrNoContainers
	}
	return err
}

// contexts are the policy's labels for containers' processes and for the files of images; empty where it has none.
func (h *Host) contexts() (process, images string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if process, _, err = label.InitLabels(nil); err != nil {
		return "", "", fmt.Errorf("read contexts for containers: %w", err)
	}
	selinux.ReleaseLabel(process) // its level is nobody's
	//lint:ignore SA1019 berth is the user that it is thought to lack: nothing else tells of the policy's "ro_file".
	return process, selinux.ROFileLabel(), nil
}

// Pod returns the labels of a new pod, with a level that is its own unless the client names one. Release gives
// the level back. Errors: ErrNoContainers, ErrRefused. Without SELinux there are no labels, and that is no error.
func (h *Host) Pod(asked Options) (Labels, error) {
	if !h.Enabled() {
		return Labels{}, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	process, file, err := label.InitLabels(nil)
	if err != nil {
		return Labels{}, fmt.Errorf("choose labels: %w", err)
	}
	if process == "" {
		if asked == (Options{}) {
			return Labels{}, nil
		}
		return Labels{}, ErrNoContainers
	}
	fresh := Labels{process, file}
	labels, err := change(fresh, asked)
	if err != nil || levelOf(labels.Process) != levelOf(fresh.Process) {
		selinux.ReleaseLabel(fresh.Process)
	}
	if err != nil {
		return Labels{}, err
	}
	h.count(labels)
	return labels, nil
}

// Keep takes over a pod of an earlier daemon, whose level is not to be given away.
func (h *Host) Keep(l Labels) {
	if l.Process == "" || !h.Enabled() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count(l)
}

func (h *Host) count(l Labels) {
	if h.levels == nil {
		h.levels = map[string]int{}
	}
	if h.levels[levelOf(l.Process)]++; h.levels[levelOf(l.Process)] == 1 {
		_ = selinux.ReserveLabelV2(l.Process) // those that the library gave are reserved already
	}
}

// Release gives a pod's level back, when no other pod has it too. It is called once for each Pod or Keep.
func (h *Host) Release(l Labels) {
	if l.Process == "" || !h.Enabled() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	level := levelOf(l.Process)
	if h.levels[level]--; h.levels[level] > 0 {
		return
	}
	delete(h.levels, level)
	selinux.ReleaseLabel(l.Process)
}

// Container returns the labels of a container: its pod's, with what the client asks for in their place. It needs
// what Pod returned. Errors: ErrNoContainers, ErrRefused.
func (h *Host) Container(pod Labels, asked Options) (Labels, error) {
	switch {
	case !h.Enabled() || asked == (Options{}):
		return pod, nil
	case pod.Process == "":
		return Labels{}, ErrNoContainers
	}
	return change(pod, asked)
}

// change puts what is asked for into labels. A file has the user and level of its process, and a type of its own.
func change(l Labels, asked Options) (Labels, error) {
	if asked == (Options{}) {
		return l, nil
	}
	process, err := selinux.NewContext(l.Process)
	if err != nil {
		return Labels{}, fmt.Errorf("read label %q: %w", l.Process, err)
	}
	file, err := selinux.NewContext(l.File)
	if err != nil {
		return Labels{}, fmt.Errorf("read label %q: %w", l.File, err)
	}
	for key, value := range map[string]string{"user": asked.User, "role": asked.Role, "type": asked.Type, "level": asked.Level} {
		if value == "" {
			continue
		}
		process[key] = value
		if key == "user" || key == "level" {
			file[key] = value
		}
	}
	out := Labels{process.Get(), file.Get()}
	for _, l := range []string{out.Process, out.File} {
		if err := selinux.SecurityCheckContext(l); err != nil {
			return Labels{}, fmt.Errorf("%w: %s", ErrRefused, l)
		}
	}
	return out, nil
}

// levelOf is a label's last part: "user:role:type:level", of which the level has colons too.
func levelOf(label string) string {
	parts := strings.SplitN(label, ":", 4)
	if len(parts) < 4 {
		return ""
	}
	return parts[3]
}
