package safety

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// CVE-2024-40635: a user id beyond 32 bits wraps around, to root.
//
// The defence: ids are bounded where they are parsed (sandbox/spec, checkID and validate).
func TestRootUserIDsDoNotWrap(t *testing.T) {
	names := []string{"user-2-31", "user-2-32", "user-2-32-1", "user-minus", "user-2-64", "user-named"}
	d := start(t, append(names, "look")...)
	config := d.PodConfig("users")
	pod := d.RunPod(config)
	create := func(c *cri.ContainerConfig) {
		t.Helper()
		r, err := d.Runtime.CreateContainer(d.Context(), &cri.CreateContainerRequest{PodSandboxId: pod.ID, Config: c, SandboxConfig: config})
		if err == nil {
			t.Errorf("container %s was made: %s", c.Metadata.Name, r.ContainerId)
		} else if code := status.Code(err); code != codes.InvalidArgument && code != codes.FailedPrecondition && code != codes.NotFound {
			t.Errorf("container %s: code %v: %v", c.Metadata.Name, code, err)
		}
	}
	for _, name := range names {
		create(container(name, name))
	}
	for name, change := range map[string]func(*cri.LinuxContainerSecurityContext){
		"user":     func(s *cri.LinuxContainerSecurityContext) { s.RunAsUser = &cri.Int64Value{Value: 1 << 32} },
		"negative": func(s *cri.LinuxContainerSecurityContext) { s.RunAsUser = &cri.Int64Value{Value: -1 << 32} },
		"name":     func(s *cri.LinuxContainerSecurityContext) { s.RunAsUsername = "4294967296" },
		"group": func(s *cri.LinuxContainerSecurityContext) {
			s.RunAsUser, s.RunAsGroup = &cri.Int64Value{Value: 1}, &cri.Int64Value{Value: 1 << 32}
		},
		"groups": func(s *cri.LinuxContainerSecurityContext) { s.SupplementalGroups = []int64{1 << 32} },
	} {
		c := container("asked-"+name, "look")
		change(c.Linux.SecurityContext)
		create(c)
	}
}

// CVE-2022-24769 (containers) and CVE-2022-29162 (execs): processes start with inheritable capabilities,
// which a file with such capabilities turns into effective ones for any user.
//
// The defence: the inheritable set holds the ambient capabilities only (sandbox/spec, capabilities).
func TestRootNoInheritableCapabilities(t *testing.T) {
	d := start(t, "look")
	pod := d.RunPod(d.PodConfig("inheritable"))
	asUser := func(c *cri.ContainerConfig) *cri.ContainerConfig {
		c.Linux.SecurityContext.RunAsUser = &cri.Int64Value{Value: 1000}
		return c
	}
	r := look(t, pod, asUser(container("start", "look", "inheriting")))
	e := parse(t, pod.Run(asUser(sleeper("exec"))).Exec("exec inheriting"))
	for how, got := range map[string]report{"start": r, "exec": e} {
		if !strings.HasPrefix(got.Status["Uid"], "1000 ") {
			t.Errorf("%s: users %s", how, got.Status["Uid"])
		}
		for _, set := range []string{"CapEff", "CapPrm", "CapInh", "CapAmb"} {
			if got.Status[set] != none {
				t.Errorf("%s: %s is %s", how, set, got.Status[set])
			}
		}
		if got.Status["CapBnd"] != defaultCaps {
			t.Errorf("%s: bounding set %s", how, got.Status["CapBnd"])
		}
	}
}
