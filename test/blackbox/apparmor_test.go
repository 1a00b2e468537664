package blackbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
)

// TestRootMissingAppArmorProfile: a profile that the node has not is told with its name,
// whether the kernel has AppArmor or not.
func TestRootMissingAppArmorProfile(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("apparmor")))
	config := harness.ContainerConfig("c", "true")
	config.Linux.SecurityContext.Apparmor = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "no-such-profile"}
	_, err := d.Runtime.CreateContainer(d.Context(), &cri.CreateContainerRequest{PodSandboxId: pod.ID, Config: config, SandboxConfig: pod.Config})
	wantError(t, err, codes.InvalidArgument, "linux.security_context.apparmor", "no-such-profile")
}

// TestRootAppArmor needs a kernel with AppArmor.
func TestRootAppArmor(t *testing.T) {
	harness.NeedRoot(t)
	if text, err := os.ReadFile("/sys/module/apparmor/parameters/enabled"); err != nil || strings.TrimSpace(string(text)) != "Y" {
		t.Skip("this kernel has no AppArmor, or it is not enabled")
	}
	profile := filepath.Join(t.TempDir(), "profile")
	const text = "profile berth-test-deny flags=(attach_disconnected,mediate_deleted) {\n  file,\n  capability,\n  signal,\n  deny /etc/passwd r,\n}\n"
	check(t, os.WriteFile(profile, []byte(text), 0o644))
	parser := func(flag string) {
		if out, err := exec.Command("apparmor_parser", flag, profile).CombinedOutput(); err != nil {
			t.Fatalf("apparmor_parser %s: %v: %s", flag, err, out)
		}
	}
	parser("-Kr")
	t.Cleanup(func() { parser("-R") })
	d := start(t)
	config := harness.OnHostNetwork(d.PodConfig("apparmor"))
	config.Linux.SecurityContext.Privileged = true
	pod := d.RunPod(config)
	const own = "cat /proc/self/attr/apparmor/current"
	for _, c := range []struct {
		name       string
		profile    *cri.SecurityProfile
		privileged bool
		current    string
		passwd     string
	}{
		{"nothing-said", nil, false, "berth-default (enforce)", "read"},
		{"runtime-default", &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}, false, "berth-default (enforce)", "read"},
		{"unconfined", &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Unconfined}, false, "unconfined", "read"},
		{"localhost", &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "berth-test-deny"}, false, "berth-test-deny (enforce)", "denied"},
		{"privileged", nil, true, "unconfined", "read"},
		{"privileged-localhost", &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "berth-test-deny"}, true, "berth-test-deny (enforce)", "denied"},
	} {
		script := own + "; head -c 1 /etc/passwd >/dev/null 2>&1 && echo read || echo denied"
		config := harness.ContainerConfig(c.name, script+"; "+harness.Sleep)
		config.Linux.SecurityContext.Apparmor, config.Linux.SecurityContext.Privileged = c.profile, c.privileged
		container := pod.Run(config)
		d.Eventually("two lines of "+c.name, func() bool { return len(container.Log()) == 2 })
		want(t, c.name, container.Output("stdout"), c.current+"\n"+c.passwd+"\n")
		want(t, "exec in "+c.name, container.Exec(script), c.current+"\n"+c.passwd)
		container.Stop(0)
	}
}
