package oci

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Labelled are the options of a mount whose files all have one SELinux label ("": the options as they are).
func Labelled(options []string, label string) []string {
	if label == "" {
		return options
	}
	return append(slices.Clone(options), "context="+label)
}

// labelled says which of a container's file systems have their label by a mount option: those with files that its
// processes make. Others have the labels that the policy gives them, and a user namespace may label no
// more than these (security/selinux/hooks.c, selinux_set_mnt_opts).
func labelled(fstype string) bool {
	return fstype == "tmpfs" || fstype == "devpts" || fstype == "ramfs"
}

// mountLabel is the label of a spec's files.
func mountLabel(spec *specs.Spec) string {
	if spec.Linux == nil {
		return ""
	}
	return spec.Linux.MountLabel
}

// labelMounts are a spec's mounts with the label of its files.
func labelMounts(spec *specs.Spec) []specs.Mount {
	if spec.Linux.MountLabel == "" {
		return spec.Mounts
	}
	out := slices.Clone(spec.Mounts)
	for i, m := range out {
		if labelled(m.Type) {
			out[i].Options = Labelled(m.Options, spec.Linux.MountLabel)
		}
	}
	return out
}
