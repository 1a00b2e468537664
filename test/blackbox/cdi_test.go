package blackbox

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

// withCDI runs a daemon whose CDI specs are in a directory, which is returned too.
func withCDI(t *testing.T) (d *harness.Daemon, dir string) {
	t.Helper()
	harness.NeedRoot(t)
	dir = t.TempDir()
	check(t, os.Chmod(dir, 0o755))
	d = harness.Start(t, harness.Options{Registry: bed.Server, Pull: []string{images.Busybox}, Config: fmt.Sprintf("[sandbox]\ncdi_spec_dirs = [%q]\n", dir)})
	return d, dir
}

// devices writes a CDI spec of kind test.example/kind.
func devices(t *testing.T, dir, list string) {
	t.Helper()
	text := `{"cdiVersion": "0.6.0", "kind": "test.example/kind", "devices": [` + list + `]}`
	check(t, os.WriteFile(filepath.Join(dir, "test.json"), []byte(text), 0o644))
}

func TestRootCDIDevices(t *testing.T) {
	d, dir := withCDI(t)
	check(t, os.WriteFile(filepath.Join(dir, "library"), []byte("driver\n"), 0o644))
	devices(t, dir, `
		{"name": "one", "containerEdits": {"env": ["ONE=1", "PATH=/gpu:/bin"], "deviceNodes": [{"path": "/dev/one", "hostPath": "/dev/zero", "permissions": "r"}],
			"mounts": [{"hostPath": "`+dir+`/library", "containerPath": "/usr/lib/driver", "options": ["ro", "bind"]}]}},
		{"name": "two", "containerEdits": {"env": ["TWO=2"], "deviceNodes": [{"path": "/dev/dir/two", "type": "c", "major": 1, "minor": 3, "uid": 7, "gid": 8}]}}`)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("cdi")))
	config := harness.ContainerConfig("c", harness.Sleep)
	config.CDIDevices = []*cri.CDIDevice{{Name: "test.example/kind=one"}}
	config.Annotations = map[string]string{"cdi.k8s.io/plugin_a": "test.example/kind=two,test.example/kind=one"}
	config.Linux.SecurityContext.RunAsUser, config.Linux.SecurityContext.RunAsGroup = &cri.Int64Value{Value: 1001}, &cri.Int64Value{Value: 1002}
	c := pod.Run(config)
	look := func() {
		t.Helper()
		want(t, "environment", c.Exec("echo $ONE $TWO $PATH"), "1 2 /gpu:/bin")
		want(t, "mounted file", c.Exec("cat /usr/lib/driver; echo x 2>/dev/null > /usr/lib/driver || echo read-only"), "driver\nread-only")
	}
	look()
	want(t, "first device", c.Exec("stat -c '%t:%T %u:%g' /dev/one; head -c 4 /dev/one | wc -c"), "1:5 1001:1002\n4")
	want(t, "second device", c.Exec("stat -c '%t:%T %u:%g' /dev/dir/two"), "1:3 7:8")
	// What a container got stays, whatever becomes of the files and of the daemon.
	check(t, os.Remove(filepath.Join(dir, "test.json")))
	d.Kill()
	d.Restart()
	look()
}

func TestRootBadCDIDevices(t *testing.T) {
	d, dir := withCDI(t)
	devices(t, dir, `{"name": "gone", "containerEdits": {"deviceNodes": [{"path": "/dev/no-such-device"}]}},
		{"name": "mount", "containerEdits": {"mounts": [{"hostPath": "/no/such/library", "containerPath": "/lib/x"}]}}`)
	check(t, os.WriteFile(filepath.Join(dir, "broken.json"), []byte("{"), 0o644))
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("bad")))
	for name, words := range map[string][]string{
		"test.example/kind=two":  {"CDI_devices", "no such CDI device", "test.example/kind=two", dir, "broken.json"},
		"what":                   {"CDI_devices", "what"},
		"test.example/kind=gone": {"CDI_devices", "/dev/no-such-device"},
	} {
		config := harness.ContainerConfig("bad", "true")
		config.CDIDevices = []*cri.CDIDevice{{Name: name}}
		_, err := d.Runtime.CreateContainer(d.Context(), &cri.CreateContainerRequest{PodSandboxId: pod.ID, Config: config, SandboxConfig: pod.Config})
		wantError(t, err, codes.InvalidArgument, words...)
	}
	config := harness.ContainerConfig("mount", "true")
	config.CDIDevices = []*cri.CDIDevice{{Name: "test.example/kind=mount"}}
	_, err := d.Runtime.StartContainer(d.Context(), &cri.StartContainerRequest{ContainerId: pod.Create(config).ID})
	if err == nil || !strings.Contains(err.Error(), "/no/such/library") {
		t.Errorf("a mount of nothing: %v", err)
	}
}

// hookScript has a hook of every kind append what it sees to a file, in JSON lines.
func hooks(dir string) string {
	script := func(kind, look string) string {
		text, _ := json.Marshal([]string{"hook", "-c", `out=` + dir + `/log; { echo "` + kind + ` $(` + look + `)"; cat; echo; } >> $out`})
		return fmt.Sprintf(`{"hookName": %q, "path": "/bin/sh", "args": %s, "env": ["PATH=/usr/bin:/bin"], "timeout": 20}`, kind, text)
	}
	inside, _ := json.Marshal([]string{"sh", "-c", `{ echo "startContainer $(id -u) $(pwd) $FROM"; cat; echo; } >> /log`})
	return strings.Join([]string{
		script("prestart", "readlink /proc/self/ns/net"),
		script("createRuntime", "pwd"),
		script("createContainer", "readlink /proc/self/ns/net; ls -d rootfs/proc/1 rootfs/log; touch rootfs/made"),
		`{"hookName": "startContainer", "path": "/bin/sh", "args": ` + string(inside) + `, "env": ["PATH=/bin", "FROM=env"]}`,
		script("poststart", "readlink /proc/self/ns/net"),
		script("poststop", "readlink /proc/self/ns/net"),
	}, ",")
}

// TestRootHooks: every kind runs once, in order, in its namespaces, with the state on
// its standard input.
func TestRootHooks(t *testing.T) {
	d, dir := withCDI(t)
	devices(t, dir, `{"name": "hooks", "containerEdits": {"hooks": [`+hooks(dir)+`]}}`)
	check(t, os.WriteFile(filepath.Join(dir, "inside"), nil, 0o666))
	check(t, os.Chmod(filepath.Join(dir, "inside"), 0o666))
	pod := d.RunPod(d.PodConfig("hooks"))
	config := harness.ContainerConfig("c", "ls /made; readlink /proc/self/ns/net; "+harness.Sleep)
	config.CDIDevices = []*cri.CDIDevice{{Name: "test.example/kind=hooks"}}
	config.Annotations = map[string]string{"team": "a"}
	config.Mounts = []*cri.Mount{{HostPath: filepath.Join(dir, "inside"), ContainerPath: "/log"}}
	config.Linux.SecurityContext.RunAsUser = &cri.Int64Value{Value: 1001}
	c := pod.Run(config)
	d.Eventually("the container's lines", func() bool { return len(c.Log()) == 2 })
	said := strings.Fields(c.Output("stdout"))
	want(t, "file that a hook made", said[0], "/made")
	host, err := os.Readlink("/proc/self/ns/net")
	check(t, err)
	c.Stop(5)
	var log []string
	d.Eventually("the last hook", func() bool {
		text, _ := os.ReadFile(filepath.Join(dir, "log"))
		log = strings.Split(strings.TrimSpace(string(text)), "\n")
		return len(log) == 12
	})
	inside, err := os.ReadFile(filepath.Join(dir, "inside"))
	check(t, err)
	start := strings.Split(strings.TrimSpace(string(inside)), "\n")
	if len(start) != 2 {
		t.Fatalf("startContainer says %q", start)
	}
	bundle := filepath.Join(d.State, "pods", pod.ID, c.ID)
	for i, w := range []struct{ line, status string }{
		{"prestart " + host, "creating"}, {"createRuntime " + bundle, "creating"},
	} {
		want(t, "hook", log[2*i], w.line)
		wantState(t, log[2*i+1], c.ID, w.status, bundle)
	}
	want(t, "createContainer", strings.Join(log[4:7], "|"), "createContainer "+said[1]+"|rootfs/log|rootfs/proc/1")
	wantState(t, log[7], c.ID, "creating", bundle)
	want(t, "pid that createContainer is told", state(t, log[7]).Pid, 1)
	want(t, "startContainer", start[0], "startContainer 1001 / env")
	wantState(t, start[1], c.ID, "created", bundle)
	want(t, "poststart", log[8], "poststart "+host)
	wantState(t, log[9], c.ID, "running", bundle)
	want(t, "poststop", log[10], "poststop "+host)
	wantState(t, log[11], c.ID, "stopped", bundle)
	d.Eventually("the bundle to go", func() bool { _, err := os.Stat(bundle); return os.IsNotExist(err) })
	c.Remove()
	text, err := os.ReadFile(filepath.Join(dir, "log"))
	check(t, err)
	want(t, "poststop hooks", strings.Count(string(text), "poststop "), 1)
}

// told is the state that a hook reads.
type told struct {
	OCIVersion, ID, Status, Bundle string
	Pid                            int
	Annotations                    map[string]string
}

func state(t *testing.T, line string) (s told) {
	t.Helper()
	if err := json.Unmarshal([]byte(line), &s); err != nil {
		t.Fatalf("state %q: %v", line, err)
	}
	return s
}

func wantState(t *testing.T, line, id, status, bundle string) {
	t.Helper()
	s := state(t, line)
	if s.ID != id || s.Status != status || s.Bundle != bundle || s.Annotations["team"] != "a" || s.OCIVersion == "" || (s.Pid == 0) != (status == "stopped") {
		t.Errorf("state is %+v, wanted %s, %s, %s", s, id, status, bundle)
	}
}

// TestRootFailingHooks: a hook of any kind but the last that fails fails the start, by
// name and with its output, and leaves nothing; so does one that takes too long.
func TestRootFailingHooks(t *testing.T) {
	d, dir := withCDI(t)
	var list []string
	for _, kind := range []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart"} {
		list = append(list, fmt.Sprintf(`{"name": %q, "containerEdits": {"hooks": [{"hookName": %q, "path": "/bin/sh", "args": ["sh", "-c", "echo it is broken >&2; exit 3"]},
			{"hookName": "poststop", "path": "/bin/sh", "args": ["sh", "-c", "echo %s >> %s/poststop"]}]}}`, kind, kind, kind, dir))
		list = append(list, fmt.Sprintf(`{"name": "slow-%s", "containerEdits": {"hooks": [{"hookName": %q, "path": "/bin/sh", "args": ["sh", "-c", "echo waiting; sleep 1000"], "env": ["PATH=/bin:/usr/bin"], "timeout": 1}]}}`, kind, kind))
		list = append(list, fmt.Sprintf(`{"name": "missing-%s", "containerEdits": {"hooks": [{"hookName": %q, "path": "/no/such/hook"}]}}`, kind, kind))
	}
	devices(t, dir, strings.Join(list, ","))
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("failing")))
	start := func(device string) error {
		config := harness.ContainerConfig(device, "echo it ran; "+harness.Sleep)
		config.CDIDevices = []*cri.CDIDevice{{Name: "test.example/kind=" + device}}
		c := pod.Create(config)
		_, err := d.Runtime.StartContainer(d.Context(), &cri.StartContainerRequest{ContainerId: c.ID})
		s := c.Status()
		if s.State != cri.ContainerState_CONTAINER_EXITED || s.Reason != "StartError" || err != nil && !strings.Contains(s.Message, "hook") {
			t.Errorf("%s: %v, %s, %q", device, s.State, s.Reason, s.Message)
		}
		if ran := c.Output("stdout") != ""; ran && !strings.Contains(device, "poststart") {
			t.Errorf("%s: the program ran", device)
		}
		return err
	}
	for _, kind := range []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart"} {
		wantError(t, start(kind), codes.Unknown, kind+" hook /bin/sh", "exit status 3", "it is broken")
		wantError(t, start("slow-"+kind), codes.Unknown, kind+" hook /bin/sh", "killed after its timeout of 1s", "waiting")
		wantError(t, start("missing-"+kind), codes.Unknown, kind+" hook /no/such/hook", "no such file")
	}
	stopped, err := os.ReadFile(filepath.Join(dir, "poststop"))
	check(t, err)
	want(t, "poststop hooks of what never ran", string(stopped), "prestart\ncreateRuntime\ncreateContainer\nstartContainer\npoststart\n")
	entries, err := os.ReadDir(filepath.Join(d.State, "pods", pod.ID))
	check(t, err)
	for _, e := range entries {
		if len(e.Name()) == 64 { // a bundle: it is named by the container's id
			t.Errorf("left behind: %s", e.Name())
		}
	}
}

// TestRootHooksInAUserNamespace: what a createContainer hook makes belongs to the
// namespace's root.
func TestRootHooksInAUserNamespace(t *testing.T) {
	d, dir := withCDI(t)
	devices(t, dir, `{"name": "hooks", "containerEdits": {"env": ["HOOKS=yes"], "hooks": [
		{"hookName": "createRuntime", "path": "/bin/sh", "args": ["sh", "-c", "test $(id -u) = 0"], "env": ["PATH=/usr/bin:/bin"]},
		{"hookName": "createContainer", "path": "/bin/sh", "args": ["sh", "-c", "touch rootfs/made"], "env": ["PATH=/usr/bin:/bin"]},
		{"hookName": "startContainer", "path": "/bin/sh", "args": ["sh", "-c", "chown 7 /made"], "env": ["PATH=/bin"]}]}}`)
	pod := d.RunPod(inUserNamespace(d.PodConfig("users")))
	config := mapped("c", harness.Sleep)
	config.CDIDevices = []*cri.CDIDevice{{Name: "test.example/kind=hooks"}}
	c := pod.Run(config)
	want(t, "owner of the file", c.Exec("stat -c %u:%g /made; echo $HOOKS"), "7:0\nyes")
}

// inCgroup lists the processes in a container's cgroup.
func inCgroup(pod *harness.Pod, c *harness.Container) []string {
	for _, root := range []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup"} {
		if text, err := os.ReadFile(filepath.Join(root, pod.Config.Linux.CgroupParent, c.ID, "cgroup.procs")); err == nil {
			return strings.Fields(string(text))
		}
	}
	return nil
}

// TestRootDaemonKilledDuringHook: the process at the gate ends with the daemon, and so does
// the hook; the container did not start, and can be started again. What started is not affected.
func TestRootDaemonKilledDuringHook(t *testing.T) {
	d, dir := withCDI(t)
	var list []string
	kinds := []string{"createRuntime", "createContainer", "startContainer"}
	again := filepath.Join(dir, "again")
	for _, kind := range kinds {
		list = append(list, fmt.Sprintf(`{"name": %q, "containerEdits": {"hooks": [{"hookName": %q, "path": "/bin/sh", "args": ["sh", "-c", "test -e %s || exec sleep 1000"], "env": ["PATH=/bin:/usr/bin"]}]}}`, kind, kind, again))
	}
	devices(t, dir, strings.Join(list, ","))
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("killed")))
	beside := pod.Run(harness.ContainerConfig("beside", harness.Sleep))
	for _, kind := range kinds {
		config := harness.ContainerConfig(kind, "echo it ran; "+harness.Sleep)
		config.CDIDevices = []*cri.CDIDevice{{Name: "test.example/kind=" + kind}}
		config.Mounts = []*cri.Mount{{HostPath: dir, ContainerPath: dir}}
		c := pod.Create(config)
		ended := make(chan error, 1)
		go func() {
			_, err := d.Runtime.StartContainer(d.Context(), &cri.StartContainerRequest{ContainerId: c.ID})
			ended <- err
		}()
		bundle := filepath.Join(d.State, "pods", pod.ID, c.ID)
		d.Eventually("the bundle", func() bool { _, err := os.Stat(bundle); return err == nil })
		time.Sleep(300 * time.Millisecond)
		d.Kill()
		if err := <-ended; err == nil {
			t.Errorf("%s: the start succeeded", kind)
		}
		d.Restart()
		want(t, "state of what did not start, "+kind, c.Status().State, cri.ContainerState_CONTAINER_CREATED)
		d.Eventually("its processes to end", func() bool { return len(inCgroup(pod, c)) == 0 })
		want(t, "output of "+kind, c.Output("stdout"), "")
		check(t, os.WriteFile(again, nil, 0o644))
		c.Start()
		d.Eventually("the line of "+kind, func() bool { return len(c.Log()) == 1 })
		check(t, os.Remove(again))
		c.Remove()
		if _, err := os.Stat(bundle); !os.IsNotExist(err) {
			t.Errorf("%s: the bundle is left: %v", kind, err)
		}
	}
	want(t, "the one beside", beside.Exec("echo lives"), "lives")
}
