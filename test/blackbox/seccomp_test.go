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
	"github.com/berth-runtime/berth/test/images"
)

// localhost writes a seccomp profile to a file and returns the reference to it.
func localhost(t *testing.T, profile string) *cri.SecurityProfile {
	t.Helper()
	file := filepath.Join(t.TempDir(), "profile.json")
	check(t, os.WriteFile(file, []byte(profile), 0o644))
	return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: file}
}

// onMkdir is a profile that lets everything through but mkdir, with what stands
// behind the names.
func onMkdir(rest string) string {
	return `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], ` + rest + `}]}`
}

// TestRootSeccompActions has a shell make a directory under each action.
func TestRootSeccompActions(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("actions")))
	const script = `mkdir /tmp/d 2>&1; s=$?; chmod 0700 /tmp && chmod 0707 /tmp 2>&1; exit $s`
	for _, c := range []struct {
		name, profile, says string
		code                int32
	}{
		{"allow", onMkdir(`"action": "SCMP_ACT_ALLOW"`), "", 0},
		{"log", onMkdir(`"action": "SCMP_ACT_LOG"`), "", 0},
		{"errno", onMkdir(`"action": "SCMP_ACT_ERRNO"`), "mkdir: can't create directory '/tmp/d': Operation not permitted\n", 1},
		{"an errno of its own", onMkdir(`"action": "SCMP_ACT_ERRNO", "errnoRet": 28`), "mkdir: can't create directory '/tmp/d': No space left on device\n", 1},
		// Without a tracer such a call is not made (seccomp(2)).
		{"trace", onMkdir(`"action": "SCMP_ACT_TRACE", "errnoRet": 7`), "mkdir: can't create directory '/tmp/d': Function not implemented\n", 1},
		{"trap", onMkdir(`"action": "SCMP_ACT_TRAP"`), "Bad system call\n", 159},
		{"kill", onMkdir(`"action": "SCMP_ACT_KILL"`), "Bad system call\n", 159},
		{"kill thread", onMkdir(`"action": "SCMP_ACT_KILL_THREAD"`), "Bad system call\n", 159},
		{"kill process", onMkdir(`"action": "SCMP_ACT_KILL_PROCESS"`), "Bad system call\n", 159},
		{"arguments", `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
			{"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 30, "args": [{"index": 1, "op": "SCMP_CMP_MASKED_EQ", "value": 7, "valueTwo": 7}]},
			{"names": ["fchmodat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 30, "args": [{"index": 2, "op": "SCMP_CMP_MASKED_EQ", "value": 7, "valueTwo": 7}]}]}`,
			"chmod: /tmp: Read-only file system\n", 0},
	} {
		config := harness.ContainerConfig(strings.ReplaceAll(c.name, " ", "-"), script)
		config.Linux.SecurityContext.Seccomp = localhost(t, c.profile)
		container := pod.Run(config)
		want(t, "exit code of "+c.name, container.Wait().ExitCode, c.code)
		want(t, "output of "+c.name, container.Output("stdout")+container.Output("stderr"), c.says)
	}
}

// TestRootSeccompHoldsForExecs: what is executed in a container has its filter.
func TestRootSeccompHoldsForExecs(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("execs")))
	for _, noNewPrivs := range []bool{false, true} {
		config := harness.ContainerConfig("c"+map[bool]string{true: "-nnp"}[noNewPrivs], harness.Sleep)
		config.Linux.SecurityContext.Seccomp = localhost(t, onMkdir(`"action": "SCMP_ACT_ERRNO"`))
		config.Linux.SecurityContext.NoNewPrivs = noNewPrivs
		c := pod.Run(config)
		want(t, "mkdir in an exec", c.Exec("mkdir /tmp/d 2>&1 || true"), "mkdir: can't create directory '/tmp/d': Operation not permitted")
		want(t, "state of an exec", c.Exec("grep -c -E '^(Seccomp:.2|NoNewPrivs:.1)$' /proc/self/status"), map[bool]string{false: "1", true: "2"}[noNewPrivs])
	}
}

// TestRootSeccompOutlivesItsFile: an exec has the profile that the container was made with,
// whatever becomes of the file and of the daemon.
func TestRootSeccompOutlivesItsFile(t *testing.T) {
	d := start(t)
	config := harness.ContainerConfig("c", harness.Sleep)
	config.Linux.SecurityContext.Seccomp = localhost(t, onMkdir(`"action": "SCMP_ACT_ERRNO"`))
	c := d.RunPod(harness.OnHostNetwork(d.PodConfig("file"))).Run(config)
	check(t, os.Remove(config.Linux.SecurityContext.Seccomp.LocalhostRef))
	d.Kill()
	d.Restart()
	want(t, "mkdir in an exec", c.Exec("mkdir /tmp/d 2>&1 || true"), "mkdir: can't create directory '/tmp/d': Operation not permitted")
}

// TestRootSeccompArchitectures runs a 32-bit program under profiles that name its
// architecture, and that don't.
func TestRootSeccompArchitectures(t *testing.T) {
	harness.NeedRoot(t)
	root, err := images.ModuleRoot()
	check(t, err)
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "small"), "./test/images/programs/nnp")
	build.Dir, build.Env = root, append(os.Environ(), "GOARCH=386", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build a 32-bit program: %v\n%s", err, out)
	}
	if exec.Command(filepath.Join(dir, "small")).Run() != nil {
		t.Skip("this kernel runs no 32-bit programs")
	}
	check(t, os.Chmod(dir, 0o755))
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("architectures")))
	for _, c := range []struct {
		name, arches string
		code         int32
	}{
		{"native", `"SCMP_ARCH_X86_64"`, 159},
		{"both", `"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"`, 0},
	} {
		config := harness.ContainerConfig(c.name, "/v/small")
		config.Mounts = []*cri.Mount{{HostPath: dir, ContainerPath: "/v", Readonly: true}}
		config.Linux.SecurityContext.Seccomp = localhost(t, `{"defaultAction": "SCMP_ACT_ALLOW", "architectures": [`+c.arches+`], "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}`)
		want(t, "exit code with architectures "+c.name, pod.Run(config).Wait().ExitCode, c.code)
	}
}

func TestRootBadSeccompProfiles(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("profiles")))
	create := func(name string, p *cri.SecurityProfile) error {
		config := harness.ContainerConfig(name, "true")
		config.Linux.SecurityContext.Seccomp = p
		_, err := d.Runtime.CreateContainer(d.Context(), &cri.CreateContainerRequest{PodSandboxId: pod.ID, Config: config, SandboxConfig: pod.Config})
		return err
	}
	for name, c := range map[string]struct {
		profile *cri.SecurityProfile
		words   []string
	}{
		"missing":           {&cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "/no/such/profile.json"}, []string{"/no/such/profile.json"}},
		"relative":          {&cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "profile.json"}, []string{"profile.json", "absolute path"}},
		"unnamed":           {&cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost}, nil},
		"a directory":       {&cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "/etc"}, []string{"/etc"}},
		"no JSON":           {localhost(t, "no"), nil},
		"no default":        {localhost(t, "{}"), []string{"default action"}},
		"an action":         {localhost(t, onMkdir(`"action": "SCMP_ACT_MAYBE"`)), []string{"SCMP_ACT_MAYBE"}},
		"an operator":       {localhost(t, onMkdir(`"action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "op": "=="}]`)), []string{`"=="`}},
		"an architecture":   {localhost(t, `{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_VAX"]}`), []string{"SCMP_ARCH_VAX"}},
		"notify by default": {localhost(t, `{"defaultAction": "SCMP_ACT_NOTIFY"}`), []string{"SCMP_ACT_NOTIFY"}},
		"nobody listens":    {localhost(t, onMkdir(`"action": "SCMP_ACT_NOTIFY"`)), []string{"listenerPath"}},
	} {
		t.Run(name, func(t *testing.T) {
			wantError(t, create(strings.ReplaceAll(name, " ", "-"), c.profile), codes.InvalidArgument, append(c.words, "linux.security_context.seccomp")...)
		})
	}
}
