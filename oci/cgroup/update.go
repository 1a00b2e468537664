package cgroup

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Update changes the limits that r sets, and no others; device rules stay as
// Create set them. It changes all of them or none: when the kernel refuses one, those
// before it get their old values back. ErrBelowUsage says that a memory limit was not
// lowered because more is in use, ErrInvalidLimit that a value is wrong.
//
// The function that it returns takes the update back, for a caller whose next step
// fails; it is called once, and not after another Update.
func (g *Group) Update(r *specs.LinuxResources) (undo func() error, err error) {
	nothing := func() error { return nil }
	if _, err := cleanPath(g.path); err != nil {
		return nothing, err
	}
	if r == nil {
		return nothing, nil
	}
	asked := *r
	asked.Devices = nil
	l := limits{g}
	settings, err := l.updateSettings(&asked)
	if err != nil {
		return nothing, fmt.Errorf("update cgroup %s: %w", g.path, err)
	}
	old, err := l.present(settings)
	if err != nil {
		return nothing, fmt.Errorf("update cgroup %s: %w", g.path, err)
	}
	undo = func() error {
		if err := errors.Join(l.restore(old), l.tell(old)); err != nil {
			return fmt.Errorf("give cgroup %s its old limits: %w", g.path, err)
		}
		return nil
	}
	if err = l.apply(settings); err == nil {
		err = l.tell(settings)
	}
	if err != nil {
		return nothing, fmt.Errorf("update cgroup %s: %w", g.path, errors.Join(err, undo()))
	}
	return undo, nil
}

// tell has systemd know the limits of its scope, and holds what it would change with
// them.
func (l limits) tell(settings []setting) error {
	if l.scope == nil {
		return nil
	}
	kept, err := l.present([]setting{{"memory", "memory.oom.group", "1"}})
	if err != nil {
		return err
	}
	if err := l.scope.set(path.Base(l.path), settings); err != nil {
		return err
	}
	return l.apply(kept)
}

// updateSettings are the settings of r in an order that fits the present values.
func (l limits) updateSettings(r *specs.LinuxResources) ([]setting, error) {
	if l.tree.mode == V2 {
		if err := l.checkUsage(r.Memory); err != nil {
			return nil, err
		}
		return v2Settings(l.withQuota(r))
	}
	if len(r.Unified) > 0 {
		l.tree.warnOnce("unified", errUnified)
	}
	return v1Settings(r, l.currentMemsw())
}

// present are the settings that bring back what the files of settings say now. Files
// that the node does not have are left out, as apply does.
func (l limits) present(settings []setting) ([]setting, error) {
	dir := dirCache{group: l.Group, fds: map[string]int{}}
	defer dir.close()
	var out []setting
	for _, s := range settings {
		fd, err := dir.open(s.controller)
		text := ""
		if err == nil {
			text, err = readAt(fd, s.file)
		}
		switch {
		case notGranted(err), errors.Is(err, unix.EINVAL): // or it can't be read (devices.allow)
			continue
		case err != nil:
			return nil, fmt.Errorf("read %s: %w", s.file, err)
		}
		out = append(out, setting{s.controller, s.file, formerly(s, text)})
	}
	return out, nil
}

// perDevice are the files of one line a device, of which a write changes one, and what
// a line is for a device that has none.
var perDevice = map[string]string{
	"io.max": "rbps=max wbps=max riops=max wiops=max", "io.weight": "default", "rdma.max": "hca_handle=max hca_object=max",
	"blkio.bfq.weight_device": "0", "net_prio.ifpriomap": "0",
	"blkio.throttle.read_bps_device": "0", "blkio.throttle.write_bps_device": "0",
	"blkio.throttle.read_iops_device": "0", "blkio.throttle.write_iops_device": "0",
}

// formerly is the value for s's file that brings back what text says there now.
func formerly(s setting, text string) string {
	none, ok := perDevice[s.file]
	if !ok {
		if text == "" {
			return "\n" // a write of nothing is none
		}
		return text
	}
	device, _, _ := strings.Cut(s.value, " ")
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, device+" ") {
			return line
		}
	}
	return device + " " + none
}

// restore writes old values, which were good together: in the order in which they
// were changed and, where one needs another first, again after the rest.
func (l limits) restore(old []setting) error {
	dir := dirCache{group: l.Group, fds: map[string]int{}}
	defer dir.close()
	left := slices.Clone(old)
	slices.Reverse(left)
	var errs []error
	for tries := 0; tries < 2 && len(left) > 0; tries++ {
		var again []setting
		errs = nil
		for _, s := range left {
			if err := dir.write(s); err != nil && !notGranted(err) {
				again = append(again, s)
				errs = append(errs, fmt.Errorf("write %q to %s: %w", s.value, s.file, err))
			}
		}
		left = again
	}
	return errors.Join(errs...)
}
