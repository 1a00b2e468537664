package blackbox

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
)

// TestRootIdentity: who a container runs as, what its image's files add to that, and that its status says so.
func TestRootIdentity(t *testing.T) {
	const groupsImage = staging + "test-image-predefined-group:latest" // user 1000 "default-user" of /home, and of group 50000
	d := start(t, groupsImage)
	pods := map[string]*harness.Pod{
		"plain": d.RunPod(harness.OnHostNetwork(d.PodConfig("plain"))), "mapped": d.RunPod(harness.OnHostNetwork(inUserNamespace(d.PodConfig("mapped")))),
	}
	id := func(n int64) *cri.Int64Value { return &cri.Int64Value{Value: n} }
	for name, c := range map[string]struct {
		change func(*cri.LinuxContainerSecurityContext)
		says   string // uid:gid:groups:home
	}{
		"the-images": {func(*cri.LinuxContainerSecurityContext) {}, "1000:1000:[1000 50000]:/home"},
		"by-name":    {func(s *cri.LinuxContainerSecurityContext) { s.RunAsUsername = "www-data" }, "33:33:[33]:/var/www"},
		"by-number":  {func(s *cri.LinuxContainerSecurityContext) { s.RunAsUser = id(33) }, "33:33:[33]:/var/www"},
		"unknown":    {func(s *cri.LinuxContainerSecurityContext) { s.RunAsUser = id(4321) }, "4321:0:[0]:/"},
		"with-group": {func(s *cri.LinuxContainerSecurityContext) { s.RunAsUser, s.RunAsGroup = id(1000), id(77) }, "1000:77:[77 50000]:/home"},
		"merge": {func(s *cri.LinuxContainerSecurityContext) {
			s.SupplementalGroups = []int64{9, 8}
		}, "1000:1000:[8 9 1000 50000]:/home"},
		"strict": {func(s *cri.LinuxContainerSecurityContext) {
			s.SupplementalGroups, s.SupplementalGroupsPolicy = []int64{9, 8}, cri.SupplementalGroupsPolicy_Strict
		}, "1000:1000:[8 9 1000]:/home"},
		"root": {func(s *cri.LinuxContainerSecurityContext) { s.RunAsUser = id(0) }, "0:0:[0 10]:/root"},
	} {
		for kind, pod := range pods {
			config := harness.ContainerConfig(name, harness.Sleep)
			config.Image.Image = groupsImage
			c.change(config.Linux.SecurityContext)
			container := pod.Run(config)
			status := container.Status().User.GetLinux()
			inside := container.Exec("echo $(id -u):$(id -g):[$(id -G | tr ' ' '\\n' | sort -n | xargs)]:$HOME")
			want(t, name+" in a pod "+kind, inside, c.says)
			said := fmt.Sprintf("%d:%d:%v:", status.GetUid(), status.GetGid(), status.GetSupplementalGroups())
			if !strings.HasPrefix(c.says, said) {
				t.Errorf("the status of %s says %s, wanted %s", name, said, c.says)
			}
			container.Remove()
		}
	}
}

// TestRootBadIdentity: ids that some program would take for another are refused (CVE-2024-40635), and so is whom the image doesn't know.
func TestRootBadIdentity(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("bad")))
	id := func(n int64) *cri.Int64Value { return &cri.Int64Value{Value: n} }
	for _, c := range []struct {
		change func(*cri.LinuxContainerSecurityContext)
		words  []string
	}{
		{func(s *cri.LinuxContainerSecurityContext) { s.RunAsUser = id(1 << 31) }, []string{"run_as_user", "2147483648"}},
		{func(s *cri.LinuxContainerSecurityContext) { s.RunAsUser = id(-1) }, []string{"run_as_user", "-1"}},
		{func(s *cri.LinuxContainerSecurityContext) { s.RunAsUser = id(1 << 32) }, []string{"run_as_user", "4294967296"}},
		{func(s *cri.LinuxContainerSecurityContext) { s.RunAsUser, s.RunAsGroup = id(1), id(1<<32) }, []string{"run_as_group", "4294967296"}},
		{func(s *cri.LinuxContainerSecurityContext) { s.RunAsGroup = id(5) }, []string{"run_as_group", "needs run_as_user"}},
		{func(s *cri.LinuxContainerSecurityContext) { s.SupplementalGroups = []int64{1, 1 << 31} }, []string{"supplemental_groups[1]", "2147483648"}},
		{func(s *cri.LinuxContainerSecurityContext) { s.RunAsUsername = "4294967296" }, []string{"4294967296"}},
		{func(s *cri.LinuxContainerSecurityContext) { s.RunAsUsername = "no-such-user" }, []string{"no-such-user"}},
		{func(s *cri.LinuxContainerSecurityContext) { s.RunAsUser, s.RunAsUsername = id(1), "www-data" }, []string{"run_as_username"}},
	} {
		config := harness.ContainerConfig("bad", "true")
		c.change(config.Linux.SecurityContext)
		wantError(t, tryCreate(d, pod, config), codes.InvalidArgument, c.words...)
	}
}

// TestRootProcessDefaults: the umask, and a working directory that the image lacks.
func TestRootProcessDefaults(t *testing.T) {
	d := start(t)
	for kind, config := range map[string]*cri.PodSandboxConfig{"plain": d.PodConfig("plain"), "mapped": inUserNamespace(d.PodConfig("mapped"))} {
		config := harness.OnHostNetwork(config)
		container := harness.ContainerConfig("c", "umask; pwd; stat -c '%a %u:%g' . ..; touch f 2>&1")
		container.WorkingDir = "/new/working/dir"
		container.Linux.SecurityContext.RunAsUser = &cri.Int64Value{Value: 1000}
		c := d.RunPod(config).Run(container)
		c.Wait()
		want(t, "what is said in a pod "+kind, c.Output("stdout"), "0022\n/new/working/dir\n755 0:0\n755 0:0\ntouch: f: Permission denied\n")
	}
}
