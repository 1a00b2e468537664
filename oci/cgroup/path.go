package cgroup

import (
	"fmt"
	"path"
	"strings"
)

// Driver says who lays out the tree, and so how a container's group is named.
type Driver string

// The drivers.
const (
	Cgroupfs Driver = "cgroupfs"
	Systemd  Driver = "systemd" // slices and scopes by systemd's rules of naming
)

// cleanPath checks that p names one group below the root, and gives it in one form.
func cleanPath(p string) (string, error) {
	if !strings.HasPrefix(p, "/") || p == "/" || strings.ContainsAny(p, "\x00\n") {
		return "", fmt.Errorf("%w %q: must be below /", ErrInvalidPath, p)
	}
	for element := range strings.SplitSeq(p[1:], "/") {
		if element == "" || element == "." || element == ".." || len(element) > 255 {
			return "", fmt.Errorf("%w %q: bad element %q", ErrInvalidPath, p, element)
		}
	}
	return p, nil
}

// ContainerPath is the group of the container id below parent, which is in
// cgroupfs syntax for both drivers, as CRI has it ("" and "/": the root, with
// systemd the slice system.slice). Its last element is id, or ends in -id.scope.
func ContainerPath(driver Driver, parent, id string) (string, error) {
	if driver == Systemd {
		slice, err := SlicePath(parent)
		if err != nil {
			return "", err
		}
		return cleanPath(strings.TrimSuffix(slice, "/") + "/berth-" + id + ".scope")
	}
	if parent == "" {
		parent = "/"
	}
	return cleanPath(strings.TrimSuffix(parent, "/") + "/" + id)
}

// SlicePath is where systemd keeps a slice: "a-b.slice" is below "a.slice"
// (systemd.slice(5)). parent is the slice, or a path that ends in it.
func SlicePath(parent string) (string, error) {
	name := path.Base(path.Clean("/" + parent))
	if name == "/" {
		name = "system.slice"
	}
	base, ok := strings.CutSuffix(name, ".slice")
	if !ok || base == "" {
		return "", fmt.Errorf("%w %q: its last element must be a slice", ErrInvalidPath, parent)
	}
	if base == "-" {
		return "/", nil // the root slice
	}
	out, prefix := "", ""
	for part := range strings.SplitSeq(base, "-") {
		if part == "" {
			return "", fmt.Errorf("%w %q: a slice's name has no empty parts", ErrInvalidPath, parent)
		}
		prefix += part
		out += "/" + prefix + ".slice"
		prefix += "-"
	}
	return out, nil
}
