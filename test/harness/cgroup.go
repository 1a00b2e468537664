package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// CgroupDriverVariable chooses the driver that daemons are run with; "systemd" needs
// systemd as PID 1. Not set, it is cgroupfs.
const CgroupDriverVariable = "BERTH_TEST_CGROUP_DRIVER"

func bySystemd() bool { return os.Getenv(CgroupDriverVariable) == "systemd" }

// withDriver adds the driver systemd to a configuration, and a slice of the daemon's own.
func (d *Daemon) withDriver(config string) string {
	const section = "[sandbox]\n"
	own := fmt.Sprintf("%scgroup_driver = \"systemd\"\ncgroup_parent = %q\n", section, d.CgroupParent)
	if strings.Contains(config, section) {
		return strings.Replace(config, section, own, 1)
	}
	return own + "\n" + config
}

// removeSlice ends the slice with all of its pods', as kubelet does with those of pods.
func (d *Daemon) removeSlice() {
	if !bySystemd() {
		return
	}
	if out, err := exec.Command("systemctl", "stop", filepath.Base(d.CgroupParent)).CombinedOutput(); err != nil {
		d.t.Errorf("stop slice: %v: %s", err, out)
	}
}

// PodCgroup is the cgroup that PodConfig gives a pod of this name as its parent, as kubelet
// names it with either driver.
func (d *Daemon) PodCgroup(name string) string {
	if !bySystemd() {
		return d.CgroupParent + "/pod-" + name
	}
	slice := strings.TrimSuffix(filepath.Base(d.CgroupParent), ".slice")
	return d.CgroupParent + "/" + slice + "-pod_" + strings.ReplaceAll(name, "-", "_") + ".slice"
}

// Cgroup is the container's cgroup below each hierarchy.
func (c *Container) Cgroup() string {
	parent := c.pod.Config.Linux.CgroupParent
	if bySystemd() {
		return parent + "/berth-" + c.ID + ".scope"
	}
	return parent + "/" + c.ID
}

// UnifiedCgroups says whether this machine has cgroup v2.
func UnifiedCgroups() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

// Limit reads a file of the container's cgroup: v1 CONTROLLER/FILE on cgroup v1, v2 FILE on v2.
func (c *Container) Limit(v1, v2 string) string {
	c.pod.d.t.Helper()
	controller, file := filepath.Split(v1)
	path := filepath.Join("/sys/fs/cgroup", controller, c.Cgroup(), file)
	if UnifiedCgroups() {
		path = filepath.Join("/sys/fs/cgroup", c.Cgroup(), v2)
	}
	text, err := os.ReadFile(path)
	c.pod.d.must(err)
	return strings.TrimSpace(string(text))
}
