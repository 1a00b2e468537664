package safety

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
)

// CVE-2019-5736: a container makes the runtime execute itself, by an entry point that is a link to
// /proc/self/exe, keeps a descriptor of it, and overwrites it on the host when it has ended.
//
// The defence: what the keeper and the pod's PID 1 execute is a sealed memfd (sandbox/keeper,
// sealBinary; sandbox, sealed).
func TestRootRuntimeCannotBeOverwritten(t *testing.T) {
	d := start(t, "look", "self")
	config := d.PodConfig("self")
	config.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_POD
	pod := d.RunPod(config)
	shared := func(c *cri.ContainerConfig) *cri.ContainerConfig {
		c.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_POD
		// To read another process's exe takes what it has; it has no more than this.
		c.Linux.SecurityContext.Capabilities = &cri.Capability{AddCapabilities: []string{"SYS_PTRACE"}}
		return c
	}
	binary := keeperSum(t)
	victim := pod.Run(shared(container("victim", "self")))
	if s := victim.Status(); s.State != cri.ContainerState_CONTAINER_RUNNING {
		t.Fatalf("the runtime's own program, which keeps still as pause, has state %v, code %d", s.State, s.ExitCode)
	}
	sealed := 0
	for _, pid := range append(children(t, d.Keeper()), d.Keeper()) {
		if is, own := seals(t, pid); own {
			sealed++
			if want := unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL; is&want != want {
				t.Errorf("what process %d executes has seals %#x, wanted %#x", pid, is, want)
			}
		}
	}
	if sealed != 3 {
		t.Errorf("%d processes execute berth-keeper, wanted the keeper, PID 1 of the pod and the victim", sealed)
	}
	attacker := pod.Run(shared(sleeper("attacker")))
	// Its descriptor is held from before the end of the process until after: while it runs, writing
	// fails with ETXTBSY whatever it is. The byte that is written is the one that is there.
	script := `
pid=
for p in /proc/[0-9]*; do [ "$(tr '\0' ' ' < $p/cmdline)" = "/bin/self pause " ] && pid=${p#/proc/}; done
[ -n "$pid" ] || { echo no victim; exit 1; }
exec 3< /proc/$pid/exe || exit 1
exec 4< /proc/1/exe || exit 1
kill $pid
while [ -e /proc/$pid ]; do sleep 0.02; done
for fd in 3 4; do printf '\177' | dd of=/proc/self/fd/$fd conv=notrunc bs=1 count=1 2>/dev/null && echo $fd was written; done
echo tried`
	if said := attacker.Exec(script); said != "tried" {
		t.Errorf("the attacker says %q, wanted that it tried in vain", said)
	}
	if keeperSum(t) != binary {
		t.Error("the keeper's binary has changed")
	}
}

// seals are those of what a process executes (memfd_create(2)); own says that it is berth-keeper.
func seals(t *testing.T, pid int) (is int, own bool) {
	t.Helper()
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !strings.HasPrefix(string(command), "berth-keeper\x00") && !strings.HasSuffix(string(command), "pause\x00") {
		return 0, false
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	is, err = unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil {
		t.Errorf("what process %d executes can't be sealed: %v", pid, err)
	}
	return is, true
}

// children are a process's.
func children(t *testing.T, pid int) []int {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	var out []int
	for _, path := range tasks {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // a thread that has ended
		}
		for _, f := range strings.Fields(string(text)) {
			child, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, child)
		}
	}
	return out
}

func keeperSum(t *testing.T) [sha256.Size]byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(harness.Bin(t), "berth-keeper"))
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(b)
}

// CVE-2024-21626: a working directory below /proc/self/fd leads into the host by a descriptor that the
// runtime left open.
//
// The defences, of which each alone holds: the working directory is opened by openat2 without magic
// links (oci/program, workingDir), and the child closes what is none of its program's (oci/launch, gaps).
func TestRootWorkingDirectoryStaysInside(t *testing.T) {
	d := start(t, "look", "workdir")
	pod := d.RunPod(d.PodConfig("workdir"))
	for fd := 3; fd < 24; fd++ {
		config := container(fmt.Sprint("fd-", fd), "look")
		config.WorkingDir = fmt.Sprint("/proc/self/fd/", fd)
		refused(t, d, pod, config, "enter the working directory "+config.WorkingDir)
	}
	refused(t, d, pod, container("image", "workdir"), "enter the working directory /work")
	c := pod.Run(sleeper("sleeper"))
	if said := c.Exec("cd /proc/self/cwd && pwd -P"); said != "/" {
		t.Errorf("an exec's working directory is %s", said)
	}
	// An exec starts in its container's working directory, which may have become something else meanwhile.
	config := sleeper("moved")
	config.WorkingDir = "/inside"
	c = pod.Run(config)
	if said := c.Exec("pwd"); said != "/inside" {
		t.Errorf("before it was moved, an exec is in %s", said)
	}
	work := fmt.Sprintf("/proc/%d/root/inside", c.PID())
	for _, to := range append(fdPaths(24), "/proc/self/cwd", "/proc/1/root/proc/self/fd/3", "/proc/thread-self/root") {
		if err := errors.Join(os.Remove(work), os.Symlink(to, work)); err != nil {
			t.Fatal(err)
		}
		r, err := c.TryExec(10, "pwd")
		if err == nil || !strings.Contains(err.Error(), "enter the working directory /inside") {
			t.Errorf("an exec in %s: %v, %v", to, r, err)
		}
	}
}

// fdPaths are those below which a process's own descriptors are, and its parent's.
func fdPaths(most int) []string {
	var out []string
	for fd := 3; fd < most; fd++ {
		out = append(out, fmt.Sprint("/proc/self/fd/", fd), fmt.Sprintf("/proc/self/fd/%d/../../..", fd))
	}
	return out
}

// refused wants the container's start to fail, with a message that has the words, and to leave it exited
// with code 128.
func refused(t *testing.T, d *harness.Daemon, pod *harness.Pod, config *cri.ContainerConfig, words string) {
	t.Helper()
	c := pod.Create(config)
	_, err := d.Runtime.StartContainer(d.Context(), &cri.StartContainerRequest{ContainerId: c.ID})
	if err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("start of %s: %v, wanted an error with %q", config.Metadata.Name, err, words)
	}
	if s := c.Status(); s.State != cri.ContainerState_CONTAINER_EXITED || s.ExitCode != 128 {
		t.Errorf("%s is in state %v with code %d, wanted exited, 128", config.Metadata.Name, s.State, s.ExitCode)
	}
}

// CVE-2022-0492: a cgroup v1 hierarchy that can be written to has the host's kernel run a program of the
// container's choice when it becomes empty.
//
// The defences: cgroups are mounted read-only (sandbox/spec, kernelMounts), from the container's own
// down, where there is no release_agent (the cgroup namespace), and new user namespaces, which could
// mount others, are refused by the default seccomp profile.
func TestRootReleaseAgentIsOutOfReach(t *testing.T) {
	d := start(t, "look")
	pod := d.RunPod(d.PodConfig("agent"))
	c := pod.Run(asKubelet(sleeper("c")))
	for what, script := range map[string]string{
		"release agents":         `find /sys/fs/cgroup -name release_agent`,
		"cgroup files written":   `for f in $(find /sys/fs/cgroup -name cgroup.procs -o -name notify_on_release); do echo 0 2>/dev/null > $f && echo $f; done`,
		"cgroups made":           `for d in /sys/fs/cgroup /sys/fs/cgroup/*/; do mkdir $d/x 2>/dev/null && echo $d; done`,
		"hierarchies mounted":    `mkdir /tmp/m; for o in memory pids rdma none,name=x; do mount -t cgroup -o $o cgroup /tmp/m 2>/dev/null && echo $o; done; mount -t cgroup2 none /tmp/m 2>/dev/null && echo v2`,
		"remounted for writing":  `for d in /sys /sys/fs/cgroup /sys/fs/cgroup/*/; do mount -o remount,rw $d 2>/dev/null && echo $d; done`,
		"user namespaces made":   `unshare -U true 2>/dev/null && echo one`,
		"mount namespaces made":  `unshare -m true 2>/dev/null && echo one`,
		"cgroup namespaces made": `unshare -C true 2>/dev/null && echo one`,
	} {
		if said := c.Exec(script + "; true"); said != "" {
			t.Errorf("%s: %s", what, said)
		}
	}
}

// CVE-2020-15257: abstract sockets belong to the network namespace, so that a container on the host's
// network could talk to the runtime's.
//
// The defence: daemon and keeper listen on sockets in directories (cmd/berth, socket.go; sandbox/keeper,
// listen), the keeper's for root alone.
func TestRootNoAbstractSockets(t *testing.T) {
	d := start(t, "look")
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("sockets")))
	seen := pod.Run(sleeper("c")).Exec(`cat /proc/net/unix`)
	listening := 0
	for _, pid := range []int{d.PID(), d.Keeper()} {
		inodes := sockets(t, pid)
		for line := range strings.Lines(seen) {
			f := strings.Fields(line)
			if len(f) < 8 || !inodes[f[6]] {
				continue
			}
			listening++
			if !strings.HasPrefix(f[7], "/") {
				t.Errorf("process %d has socket %q", pid, f[7])
			}
		}
	}
	if listening < 2 {
		t.Errorf("%d sockets with names are daemon's and keeper's, wanted that of each", listening)
	}
	for path, want := range map[string]os.FileMode{d.Socket: 0o660 | os.ModeSocket, filepath.Join(d.State, "keeper"): 0o700 | os.ModeDir} {
		if st, err := os.Stat(path); err != nil || st.Mode() != want {
			t.Errorf("%s: mode %v, wanted %v: %v", path, st.Mode(), want, err)
		}
	}
}

// sockets are the inodes of a process's sockets.
func sockets(t *testing.T, pid int) map[string]bool {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			if inode, ok := strings.CutPrefix(target, "socket:["); ok {
				out[strings.TrimSuffix(inode, "]")] = true
			}
		}
	}
	return out
}
