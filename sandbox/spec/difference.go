package spec

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
)

// part is a field of a configuration, by CRI's name, for comparison.
type part struct {
	name  string
	value any
}

// Difference names the fields, by CRI's names, in which another configuration of the same pod differs.
func (p *Pod) Difference(other *Pod) []string { return difference(p.parts(), other.parts()) }

func (p *Pod) parts() []part {
	return []part{
		{"metadata", p.Metadata}, {"hostname", p.Hostname}, {"log_directory", p.LogDirectory}, {"dns_config", p.DNS},
		{"port_mappings", p.PortMappings}, {"labels", p.Labels}, {"annotations", p.Annotations},
		{"runtime_handler", p.RuntimeHandler}, {"linux.cgroup_parent", p.CgroupParent}, {"linux.sysctls", p.Sysctls},
		{"linux.security_context", p.Security}, {"linux.overhead", p.Overhead}, {"linux.resources", p.Resources},
	}
}

// Difference names the fields, by CRI's names, in which another configuration of the same container differs. What
// kubelet makes anew for each try of the same creation is no difference: the order of the environment, and the file
// for the termination message, whose mount an annotation names.
func (c *Container) Difference(other *Container) []string {
	return difference(c.parts(), other.parts())
}

// terminationMessage is kubelet's annotation for the mount of the file.
const terminationMessage = "io.kubernetes.container.terminationMessagePath"

func (c *Container) parts() []part {
	envs := slices.SortedStableFunc(slices.Values(c.Envs), func(a, b Env) int { return cmp.Compare(a.Key, b.Key) })
	mounts := slices.Clone(c.Mounts)
	for i := range mounts {
		if mounts[i].ContainerPath == c.Annotations[terminationMessage] {
			mounts[i].HostPath = ""
		}
	}
	return []part{
		{"metadata", c.Metadata}, {"image", c.Image}, {"command", c.Command}, {"args", c.Args}, {"working_dir", c.WorkingDir},
		{"envs", envs}, {"mounts", mounts}, {"devices", c.Devices}, {"CDI_devices", c.CDIDevices}, {"labels", c.Labels},
		{"annotations", c.Annotations}, {"log_path", c.LogPath}, {"stdin", c.Stdin}, {"stdin_once", c.StdinOnce}, {"tty", c.TTY},
		{"stop_signal", c.StopSignal}, {"linux.resources", c.Resources}, {"linux.security_context", c.Security},
	}
}

// difference compares as records do, to which nil and empty are one.
func difference(a, b []part) []string {
	var names []string
	for i := range a {
		if !bytes.Equal(canonical(a[i].value), canonical(b[i].value)) {
			names = append(names, a[i].name)
		}
	}
	return names
}

func canonical(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // records hold the same
	}
	switch string(text) {
	case "[]", "{}", `""`:
		return []byte("null")
	}
	return text
}
