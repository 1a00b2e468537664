package hostdev

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// ErrNotDevice says that a path is neither a device node nor a directory.
var ErrNotDevice = errors.New("not a device")

// maxNodes bounds how many nodes one directory may give.
const maxNodes = 4096

// Lookup finds the device nodes that a container's devices name. A symbolic link
// is followed, as CRI wants it; a directory gives all nodes below it, at the
// same places below ContainerPath. A path that does not exist is an error
// (fs.ErrNotExist), and so is one that is no device (ErrNotDevice).
func Lookup(devices []spec.Device) ([]spec.HostDevice, error) {
	var out []spec.HostDevice
	for _, d := range devices {
		path, err := filepath.EvalSymlinks(d.HostPath)
		if err != nil {
			return nil, fmt.Errorf("look up device %s: %w", d.HostPath, err)
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("look up device %s: %w", d.HostPath, err)
		}
		if info.IsDir() {
			nodes, err := below(path, d.ContainerPath, d.Permissions, nil)
			if err != nil {
				return nil, fmt.Errorf("look up devices in %s: %w", d.HostPath, err)
			}
			out = append(out, nodes...)
			continue
		}
		node, ok := fromInfo(info, filepath.Clean(d.ContainerPath), d.Permissions)
		if !ok {
			return nil, fmt.Errorf("look up device %s: %w", d.HostPath, ErrNotDevice)
		}
		out = append(out, node)
	}
	return out, nil
}

// notHosts are the places below /dev that a container has of its own.
var notHosts = map[string]bool{
	"/dev/pts": true, "/dev/shm": true, "/dev/mqueue": true, "/dev/fd": true, "/dev/.lxc": true, "/dev/.lxd-mounts": true, "/dev/.udev": true,
	"/dev/console": true, "/dev/ptmx": true,
}

// All lists the device nodes below /dev, as a privileged container gets them:
// all but those that belong to a terminal or are the container's own.
func All() ([]spec.HostDevice, error) {
	nodes, err := below("/dev", "/dev", "rwm", notHosts)
	if err != nil {
		return nil, fmt.Errorf("look up devices of the host: %w", err)
	}
	return nodes, nil
}

// below lists the nodes below dir, as if it were at target. Links are left out:
// what they point at is found where it is. What vanishes meanwhile is no error.
func below(dir, target, access string, skip map[string]bool) ([]spec.HostDevice, error) {
	var out []spec.HostDevice
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil && path != dir && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)):
			return nil
		case err != nil:
			return err
		case skip[path] && entry.IsDir():
			return filepath.SkipDir
		case skip[path] || entry.Type()&fs.ModeDevice == 0:
			return nil
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		node, ok := fromInfo(info, filepath.Join(target, strings.TrimPrefix(path, dir)), access)
		if ok {
			out = append(out, node)
		}
		if len(out) > maxNodes {
			return fmt.Errorf("more than %d device nodes", maxNodes)
		}
		return nil
	})
	return out, err
}

// fromInfo is the node that info describes; false when it is none.
func fromInfo(info fs.FileInfo, target, access string) (spec.HostDevice, bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return spec.HostDevice{}, false
	}
	kind := ""
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		kind = "c"
	case unix.S_IFBLK:
		kind = "b"
	default:
		return spec.HostDevice{}, false
	}
	perm := fs.FileMode(stat.Mode & 0o777)
	return spec.HostDevice{
		LinuxDevice: specs.LinuxDevice{
			Path: target, Type: kind, Major: int64(unix.Major(stat.Rdev)), Minor: int64(unix.Minor(stat.Rdev)),
			FileMode: &perm, UID: &stat.Uid, GID: &stat.Gid,
		},
		Access: access,
	}, true
}
