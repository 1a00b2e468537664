package criu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// RestoreLog is criu's log in Restore.Work.
const RestoreLog = "restore.log"

// Restore is a tree of processes that is made again from a dump.
type Restore struct {
	Images string // what Dump wrote
	Work   string // a directory for criu's log
	Root   string // a mount point: the root file system
	// PIDFile is written when the tree is there. All its processes are stopped (SIGSTOP) then.
	PIDFile string
	// Mounts are those that Dump took for external, by destination: a path for each.
	Mounts map[string]string
	// Join are paths of namespaces that the tree joins in place of new ones: "ipc", "uts".
	Join map[string]string
	// Inherit are the numbers of descriptors that the command has, by the name that they have in the dump.
	Inherit map[string]int
}

// RestoreCommand is the command line that restores. It ends when the tree is there, which is then an orphan, in the cgroup
// and the cgroup namespace that the command runs in. Established TCP connections come back closed: the address is another.
func (t *Tool) RestoreCommand(ctx context.Context, r Restore) ([]string, error) {
	path, err := t.usable(ctx)
	if err != nil {
		return nil, err
	}
	args := []string{path, "restore", "--restore-detached", "--leave-stopped", "--images-dir", r.Images, "--work-dir", r.Work,
		"--log-file", RestoreLog, "-v4", "--root", r.Root, "--pidfile", r.PIDFile, "--manage-cgroups=ignore", "--tcp-close", "--file-locks"}
	for _, destination := range slices.Sorted(maps.Keys(r.Mounts)) {
		args = append(args, "--external", fmt.Sprintf("mnt[%s]:%s", destination, r.Mounts[destination]))
	}
	for _, kind := range slices.Sorted(maps.Keys(r.Join)) {
		args = append(args, "--join-ns", kind+":"+r.Join[kind])
	}
	for _, name := range slices.Sorted(maps.Keys(r.Inherit)) {
		args = append(args, "--inherit-fd", fmt.Sprintf("fd[%d]:%s", r.Inherit[name], name))
	}
	return args, nil
}

// StandardStreams reads what the first three descriptors of a dump were; "" for one that was closed, or that the dump has itself.
func StandardStreams(images string) ([3]string, error) {
	var out [3]string
	text, err := os.ReadFile(filepath.Join(images, DescriptorsFile))
	if err != nil {
		return out, fmt.Errorf("read standard streams: %w", err)
	}
	var names []string
	if err := json.Unmarshal(text, &names); err != nil || len(names) != len(out) {
		return out, fmt.Errorf("read standard streams: %q: not three names", text)
	}
	for i, name := range names {
		if strings.HasPrefix(name, "pipe:[") || strings.HasPrefix(name, "file[") {
			out[i] = name
		}
	}
	return out, nil
}

// External reads Dump.External of a dump: none from one that another runtime made, whose Spec has all that is external.
func External(images string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(images, externalFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read external mounts: %w", err)
	}
	var names []string
	if err := json.Unmarshal(text, &names); err != nil {
		return nil, fmt.Errorf("read external mounts: %.200q: %w", text, err)
	}
	return names, nil
}
