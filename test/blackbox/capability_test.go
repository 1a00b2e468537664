package blackbox

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
)

// capabilitySets prints the sets of the shell's own process, without leading zeros.
const capabilitySets = `for s in Inh Prm Eff Bnd Amb; do echo $s $(sed -n "s/^Cap$s:\t0*//p" /proc/self/status); done`

// Masks of capabilities, as /proc/PID/status shows them.
const (
	dockerMask  = "a80425fb" // what a container has that asks for nothing
	bindMask    = "400"      // CAP_NET_BIND_SERVICE
	bindAndTime = "2000400"  // and CAP_SYS_TIME
)

// sets is what capabilitySets prints.
func sets(inheritable, permitted, effective, bounding, ambient string) string {
	out := "Inh " + inheritable + "\nPrm " + permitted + "\nEff " + effective + "\nBnd " + bounding + "\nAmb " + ambient + "\n"
	return strings.ReplaceAll(out, " \n", "\n")
}

// TestRootCapabilities compares all five sets, in the first process and in an exec.
func TestRootCapabilities(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("capabilities")))
	nobody := &cri.Int64Value{Value: 1001}
	for _, c := range []struct {
		name string
		user *cri.Int64Value
		caps *cri.Capability
		sets string
	}{
		{"default", nil, nil, sets("", dockerMask, dockerMask, dockerMask, "")},
		// execve takes a user's capabilities away unless they are ambient (capabilities(7)).
		{"default of a user", nobody, nil, sets("", "", "", dockerMask, "")},
		{"all dropped and one added", nil, &cri.Capability{AddCapabilities: []string{"NET_BIND_SERVICE"}, DropCapabilities: []string{"ALL"}}, sets("", bindMask, bindMask, bindMask, "")},
		{"lower case with CAP_", nil, &cri.Capability{AddCapabilities: []string{"cap_net_bind_service"}, DropCapabilities: []string{"all"}}, sets("", bindMask, bindMask, bindMask, "")},
		{"added to a user", nobody, &cri.Capability{AddCapabilities: []string{"NET_BIND_SERVICE"}, DropCapabilities: []string{"ALL"}}, sets("", "", "", bindMask, "")},
		{"ambient for a user", nobody, &cri.Capability{AddAmbientCapabilities: []string{"NET_BIND_SERVICE"}, DropCapabilities: []string{"ALL"}}, sets(bindMask, bindMask, bindMask, bindMask, bindMask)},
		{"ambient and added for a user", nobody, &cri.Capability{AddCapabilities: []string{"SYS_TIME"}, AddAmbientCapabilities: []string{"NET_BIND_SERVICE"}, DropCapabilities: []string{"ALL"}}, sets(bindMask, bindMask, bindMask, bindAndTime, bindMask)},
		{"ambient for root", nil, &cri.Capability{AddAmbientCapabilities: []string{"NET_BIND_SERVICE"}, DropCapabilities: []string{"ALL"}}, sets(bindMask, bindMask, bindMask, bindMask, bindMask)},
	} {
		config := harness.ContainerConfig(strings.ReplaceAll(c.name, " ", "-"), capabilitySets+"; "+harness.Sleep)
		config.Linux.SecurityContext.RunAsUser, config.Linux.SecurityContext.Capabilities = c.user, c.caps
		container := pod.Run(config)
		d.Eventually("the sets", func() bool { return len(container.Log()) == 5 })
		want(t, "first process, "+c.name, container.Output("stdout"), c.sets)
		want(t, "exec, "+c.name, container.Exec(capabilitySets)+"\n", c.sets)
		container.Stop(0)
	}
}

// TestRootAmbientCapabilityActs: a user binds a port that only privilege may.
func TestRootAmbientCapabilityActs(t *testing.T) {
	d := start(t)
	config := d.PodConfig("ambient")
	// Container runtimes let everyone bind low ports in a pod; here the kernel's own rule is wanted.
	config.Linux.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "1024"}
	pod := d.RunPod(config)
	for name, c := range map[string]struct {
		caps *cri.Capability
		says string
	}{
		"without": {&cri.Capability{AddCapabilities: []string{"NET_BIND_SERVICE"}}, "refused\n"},
		"with":    {&cri.Capability{AddAmbientCapabilities: []string{"NET_BIND_SERVICE"}}, "bound\n"},
	} {
		config := harness.ContainerConfig(name, "httpd -p 80 2>/dev/null && echo bound || echo refused")
		config.Linux.SecurityContext.RunAsUser, config.Linux.SecurityContext.Capabilities = &cri.Int64Value{Value: 1001}, c.caps
		container := pod.Run(config)
		container.Wait()
		want(t, name, container.Output("stdout"), c.says)
	}
}

func TestRootUnknownCapabilities(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("unknown")))
	for field, caps := range map[string]*cri.Capability{
		"add_capabilities":         {AddCapabilities: []string{"CHOWN", "CAP_FLY"}},
		"drop_capabilities":        {DropCapabilities: []string{"CAP_FLY"}},
		"add_ambient_capabilities": {AddAmbientCapabilities: []string{"CAP_FLY"}},
	} {
		config := harness.ContainerConfig("unknown", "true")
		config.Linux.SecurityContext.Capabilities = caps
		_, err := d.Runtime.CreateContainer(d.Context(), &cri.CreateContainerRequest{PodSandboxId: pod.ID, Config: config, SandboxConfig: pod.Config})
		wantError(t, err, codes.InvalidArgument, field, "CAP_FLY")
	}
}
