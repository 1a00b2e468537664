package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-runtime/berth/oci/mount"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// makeHostPaths makes the directories of the host that volumes name and that are missing, as containerd and CRI-O
// do: manifests count on it for hostPath volumes of no type. What it made goes with a creation that fails.
func (r *containerCreate) makeHostPaths() step {
	var made []string
	return step{
		name: "make missing host paths",
		do: func(context.Context) error {
			for i, v := range r.c.config.Mounts {
				if v.Image != nil {
					continue
				}
				dirs, err := makeDirectories(v.HostPath)
				made = append(made, dirs...)
				if err != nil {
					return hostPathError(i, v.HostPath, "is missing and can't be made: "+err.Error())
				}
				if err := r.checkMapping(i); err != nil {
					return err
				}
				if err := checkPropagation(i, v); err != nil {
					return err
				}
				if len(dirs) > 0 {
					r.containers.log.WithField("container", r.c.id).WithField("op", "make "+v.HostPath).Info("missing host path made")
				}
			}
			return nil
		},
		undo: func(context.Context) error {
			for _, dir := range slices.Backward(made) {
				// Somebody may use it by now: then it stays.
				if err := os.Remove(dir); err != nil {
					break
				}
			}
			return nil
		},
	}
}

// checkMapping tries to mount a container's i-th volume in the pod's user namespace, if it is to be: many file
// systems can't, and the start is late to say so.
func (r *containerCreate) checkMapping(i int) error {
	v := r.c.config.Mounts[i]
	own := r.c.pod.config.Security.Namespaces.OwnUser()
	if len(v.UIDs) == 0 || own == nil || !slices.Equal(v.UIDs, own.UIDs) || !slices.Equal(v.GIDs, own.GIDs) {
		return nil // mappings of its own are rare, and the start's
	}
	if err := r.containers.host.mappable(v.HostPath, r.c.pod.namespaces[specs.UserNamespace]); err != nil {
		return &spec.FieldError{Field: fmt.Sprintf("mounts[%d].uidMappings", i), Value: fmt.Sprint(v.UIDs), Rule: "host_path " + v.HostPath + ": " + err.Error()}
	}
	return nil
}

// makeDirectories makes what is missing of a path, and returns what it made, the outermost first.
func makeDirectories(path string) (made []string, err error) {
	if _, err := os.Stat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	path = filepath.Clean(path)
	if parent := filepath.Dir(path); parent != path {
		if made, err = makeDirectories(parent); err != nil {
			return made, err
		}
	}
	err = os.Mkdir(path, 0o755)
	if errors.Is(err, fs.ErrExist) {
		_, err = os.Stat(path) // somebody was faster; a link that leads nowhere stays an error
		return made, err
	}
	if err != nil {
		return made, err
	}
	return append(made, path), nil
}

func hostPathError(i int, path, rule string) error {
	return &spec.FieldError{Field: fmt.Sprintf("mounts[%d].host_path", i), Value: path, Rule: rule}
}

// checkPropagation wants the mount that a volume's path is on to be shared, or for HOST_TO_CONTAINER another's slave: nothing
// propagates from or to one that is private, however the volume is mounted (mount_namespaces(7)). containerd and CRI-O
// refuse that too; a container that waits for a mount which never comes is worse.
func checkPropagation(i int, v spec.Mount) error {
	path, kinds := v.HostPath, []string{"shared:"}
	var rule string
	switch v.Propagation {
	case spec.PropagationPrivate:
		return nil
	case spec.PropagationBidirectional:
		rule = "must be on a shared mount for BIDIRECTIONAL propagation"
	case spec.PropagationHostToContainer:
		kinds = append(kinds, "master:")
		rule = "must be on a shared mount, or a slave of one, for HOST_TO_CONTAINER propagation"
	}
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return hostPathError(i, path, "can't be resolved: "+err.Error())
	}
	mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(resolved))
	if err != nil {
		return fmt.Errorf("read mounts: %w", err)
	}
	var on *mountinfo.Info
	for _, m := range mounts {
		if on == nil || len(m.Mountpoint) >= len(on.Mountpoint) { // the last of those on one place covers the others
			on = m
		}
	}
	if on == nil {
		return fmt.Errorf("find the mount of %s: none has it", path)
	}
	for _, kind := range kinds {
		if slices.ContainsFunc(strings.Fields(on.Optional), func(o string) bool { return strings.HasPrefix(o, kind) }) {
			return nil
		}
	}
	return hostPathError(i, path, rule+", and the one on "+on.Mountpoint+" is not (make it by mount --make-shared)")
}

func (l *linux) mappable(path string, users *os.File) error {
	f, err := mount.Mapped(path, users)
	if err != nil {
		return err
	}
	return f.Close()
}
