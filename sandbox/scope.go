package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-runtime/berth/oci/cgroup"
)

// createScope makes a container's group as a scope of systemd's.
//
// systemd takes a scope's cgroup away when its last process ends, with the counter
// that says whether the kernel killed for memory, and makes none without a process. So
// a scope is held by one of berth's, berth-keeper's pause, which outlives the daemon
// and ends when the group is killed before its removal. It was started outside: next to nothing
// of its memory counts in the container's limit.
func (l *linux) createScope(path string, r *specs.LinuxResources) (*cgroup.Group, error) {
	if l.cgroups.Load(path).Exists() {
		return l.systemd.Scope(l.cgroups, path, r, 0)
	}
	binary, err := l.pauseBinary()
	if err != nil {
		return nil, err
	}
	holder := exec.Command("/proc/self/fd/3", "pause")
	holder.ExtraFiles, holder.Env, holder.Dir = []*os.File{binary}, []string{}, "/"
	holder.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := holder.Start(); err != nil {
		return nil, fmt.Errorf("hold scope: %w", err)
	}
	go func() { _ = holder.Wait() }() // reaps it; killed with the group
	// What is below -1000 is spared when the kernel kills a group as one (memory.oom.group). A node that grants
	// no such score may lose the counter then, and no more.
	_ = os.WriteFile(filepath.Join("/proc", strconv.Itoa(holder.Process.Pid), "oom_score_adj"), []byte("-1000"), 0)
	group, err := l.systemd.Scope(l.cgroups, path, r, holder.Process.Pid)
	if err != nil {
		_ = holder.Process.Kill() // or it has ended
	}
	return group, err
}

// scopeGone tells systemd that a container's group was removed.
func (l linuxCgroups) scopeGone(path string) error {
	if l.systemd == nil || filepath.Ext(path) != ".scope" {
		return nil
	}
	return l.systemd.Gone(path)
}
