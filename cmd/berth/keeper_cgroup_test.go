package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/berth-runtime/berth/oci/cgroup"
	"github.com/sirupsen/logrus"
)

func TestRootKeeperCgroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes a cgroup")
	}
	tree, err := cgroup.Detect(cgroupMount)
	if err != nil {
		t.Skip("this machine has no cgroup hierarchy: ", err)
	}
	process := exec.Command("sleep", "60")
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { process.Process.Kill(); process.Wait() })
	cfg := defaultConfig()
	cfg.State = t.TempDir()
	cfg.Sandbox.CgroupParent = fmt.Sprintf("/berth-test-%d", os.Getpid())
	own, err := newKeeperCgroup(tree, nil, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.remove(t.Context()) })
	for range 2 { // a successor enters the group that is there
		if err := own.enterSoon(logrus.New())(process.Process.Pid); err != nil {
			t.Fatal(err)
		}
		own.moving.Wait()
	}
	pids, err := tree.Load(own.path).Processes()
	if err != nil || !slices.Equal(pids, []int{process.Process.Pid}) {
		t.Errorf("processes %v, %v, want %d", pids, err, process.Process.Pid)
	}
	process.Process.Kill()
	process.Wait()
	for range 2 {
		if err := own.remove(t.Context()); err != nil {
			t.Errorf("remove: %v", err)
		}
	}
	if tree.Load(own.path).Exists() || tree.Load(cfg.Sandbox.CgroupParent).Exists() {
		t.Error("a cgroup is left")
	}
}
