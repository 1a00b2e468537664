package spec

import (
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// inject adds to a container's Spec what edits have: environment, devices with their
// rules, mounts, groups and hooks. What is there already under the same name, path or
// destination gives way.
func inject(out *specs.Spec, edits *specs.Spec) {
	if edits == nil {
		return
	}
	if p := edits.Process; p != nil {
		env := envList(out.Process.Env)
		for _, e := range p.Env {
			key, value, _ := strings.Cut(e, "=")
			env.set(key, value)
		}
		out.Process.Env = env
		for _, g := range p.User.AdditionalGids {
			if !slices.Contains(out.Process.User.AdditionalGids, g) {
				out.Process.User.AdditionalGids = append(out.Process.User.AdditionalGids, g)
			}
		}
	}
	for _, m := range edits.Mounts {
		out.Mounts = slices.DeleteFunc(out.Mounts, func(o specs.Mount) bool { return path.Clean(o.Destination) == path.Clean(m.Destination) })
		out.Mounts = append(out.Mounts, m)
	}
	if l := edits.Linux; l != nil {
		injectDevices(out, l)
	}
	out.Hooks = edits.Hooks
}

// injectDevices gives a device whose owner is left open to the container's user, as
// the CDI specification has it (uid and gid of deviceNodes).
func injectDevices(out *specs.Spec, edits *specs.Linux) {
	user := out.Process.User
	for _, d := range edits.Devices {
		if d.UID == nil && user.UID > 0 {
			d.UID = &user.UID
		}
		if d.GID == nil && user.GID > 0 {
			d.GID = &user.GID
		}
		out.Linux.Devices = slices.DeleteFunc(out.Linux.Devices, func(o specs.LinuxDevice) bool { return o.Path == d.Path })
		out.Linux.Devices = append(out.Linux.Devices, d)
	}
	if edits.Resources == nil {
		return
	}
	for _, rule := range edits.Resources.Devices {
		if rule.Access != "" { // "none" in a CDI spec: the node alone
			out.Linux.Resources.Devices = append(out.Linux.Resources.Devices, rule)
		}
	}
}
