package spec

import specs "github.com/opencontainers/runtime-spec/specs-go"

// HostDevice is a device node and what a container may do with it.
type HostDevice struct {
	specs.LinuxDevice        // Path is that in the container
	Access            string // of "rwm"
}
