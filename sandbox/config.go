package sandbox

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/berth-runtime/berth/oci/cgroup"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// Config is the [sandbox] table of the configuration file, and where the daemon
// has its directories.
type Config struct {
	// CgroupParent is the parent of containers whose pod names none, in cgroupfs syntax.
	CgroupParent string `toml:"cgroup_parent"`
	// CgroupDriver is how kubelet and berth name cgroups: "cgroupfs" or "systemd".
	CgroupDriver string `toml:"cgroup_driver"`
	// PidsLimit is how many processes a container may have; 0: no limit.
	PidsLimit int64 `toml:"pids_limit"`
	// MaxLogLine is how many bytes of a log line are written before it is split; 0: 16 KiB.
	MaxLogLine int `toml:"max_log_line"`
	// MaxLogSize is how many bytes a container's log has before it is cut off; 0: no bound.
	MaxLogSize int64 `toml:"max_log_size"`
	// MaxExecs is how many execs one container has at once; 0: no bound.
	MaxExecs int `toml:"max_execs"`
	// ShmSize is the size of a pod's /dev/shm, in bytes.
	ShmSize int64 `toml:"shm_size"`
	// SpareNamespaces: one set is made ahead for the next pod.
	SpareNamespaces bool `toml:"spare_namespaces"`
	// AppArmorProfile is the profile of containers that ask for none, loaded at the start; "": none.
	AppArmorProfile string `toml:"apparmor_profile"`
	// SELinux gives pods and containers labels, where the kernel has SELinux.
	SELinux bool `toml:"selinux"`
	// Rlimits are what every process starts with: "nofile=1024:524288", soft and hard, or one number for both.
	Rlimits []string `toml:"rlimits"`
	// CDISpecDirs are where the node's CDI devices are described; later ones count over earlier ones.
	CDISpecDirs []string `toml:"cdi_spec_dirs"`
	// CRIU is the program that checkpoints need: a path, or what to look for in PATH.
	CRIU string `toml:"criu"`

	// Root has what survives a reboot.
	Root string `toml:"-"`
	// Runtimes are others than berth's own executor, by handler; a table of its own in the configuration.
	Runtimes map[string]Runtime `toml:"-"`
	// State has what ends with the machine.
	State string `toml:"-"`
	// KeeperBinary is the path of berth-keeper, whose pause mode is PID 1 of pods that share their PID namespace.
	KeeperBinary string `toml:"-"`
	// ShowPods gives each pod a cgroup of its own, empty, for those that watch cgroups.
	ShowPods bool `toml:"-"`
	// NetNSDir is where network namespaces are pinned; "": /run/netns, where CNI agents look.
	NetNSDir string `toml:"-"`
}

// leastLogSize is the least cap of a log.
const leastLogSize = 64 << 10

const defaultNetNSDir = "/run/netns"

// DefaultConfig is what holds where the configuration file is silent.
func DefaultConfig() Config {
	return Config{
		CgroupParent: "/berth", CgroupDriver: "cgroupfs", MaxExecs: 128, ShmSize: 64 << 20, SpareNamespaces: true,
		AppArmorProfile: "berth-default", SELinux: true, Rlimits: []string{}, CDISpecDirs: []string{"/etc/cdi", "/var/run/cdi"}, CRIU: "criu",
	}
}

// Validate returns every mistake in c, each named by its key.
func (c *Config) Validate() error {
	var errs []error
	wrong := func(key string, value any, rule string) {
		errs = append(errs, fmt.Errorf("%s %v: %s", key, value, rule))
	}
	if !strings.HasPrefix(c.CgroupParent, "/") || path.Clean(c.CgroupParent) != c.CgroupParent || c.CgroupParent == "/" {
		wrong("cgroup_parent", c.CgroupParent, "must be a clean absolute path below the root cgroup")
	}
	if c.CgroupDriver == "systemd" && c.CgroupParent != DefaultConfig().CgroupParent && !strings.HasSuffix(c.CgroupParent, ".slice") {
		wrong("cgroup_parent", c.CgroupParent, "must be a slice with cgroup_driver systemd")
	}
	if c.CgroupDriver != "cgroupfs" && c.CgroupDriver != "systemd" {
		wrong("cgroup_driver", c.CgroupDriver, `must be "cgroupfs" or "systemd"`)
	}
	if c.PidsLimit < 0 {
		wrong("pids_limit", c.PidsLimit, "must not be negative")
	}
	if c.MaxLogLine < 0 || c.MaxLogLine > 1<<20 {
		wrong("max_log_line", c.MaxLogLine, "must be between 0 and 1048576")
	}
	if c.MaxLogSize < 0 || c.MaxLogSize > 0 && c.MaxLogSize < leastLogSize {
		wrong("max_log_size", c.MaxLogSize, fmt.Sprintf("must be 0, or %d or more", leastLogSize))
	}
	if c.MaxExecs < 0 {
		wrong("max_execs", c.MaxExecs, "must not be negative")
	}
	if c.ShmSize < 4096 {
		wrong("shm_size", c.ShmSize, "must be at least 4096")
	}
	if strings.ContainsFunc(c.AppArmorProfile, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '/' }) {
		wrong("apparmor_profile", c.AppArmorProfile, "must be a name without slashes, spaces and control characters")
	}
	if _, err := parseRlimits(c.Rlimits); err != nil {
		errs = append(errs, err)
	}
	if c.CRIU == "" || strings.Contains(c.CRIU, "/") && !filepath.IsAbs(c.CRIU) {
		wrong("criu", c.CRIU, "must be an absolute path, or a name to look for in PATH")
	}
	for _, dir := range c.CDISpecDirs {
		if !filepath.IsAbs(dir) {
			wrong("cdi_spec_dirs", dir, "must be an absolute path")
		}
	}
	return errors.Join(errs...)
}

// netNS is where a pod's network namespace is pinned.
func (c *Config) netNS(podID string) string {
	dir := c.NetNSDir
	if dir == "" {
		dir = defaultNetNSDir
	}
	return filepath.Join(dir, "berth-"+podID)
}

// cgroup is the cgroup of a container (or of a pod's pause process), from the
// hierarchy's root.
func (c *Config) cgroup(pod *spec.Pod, id string) (string, error) {
	return c.OwnCgroup(pod.CgroupParent, id)
}

// OwnCgroup is the cgroup of what is called id, below parent ("": the configured one,
// which for systemd is a slice).
func (c *Config) OwnCgroup(parent, id string) (string, error) {
	if parent == "" {
		parent = c.CgroupParent
		if c.CgroupDriver == "systemd" {
			parent = strings.TrimSuffix(parent, ".slice") + ".slice"
		}
	}
	p, err := cgroup.ContainerPath(cgroup.Driver(c.CgroupDriver), parent, id)
	if err != nil {
		return "", fmt.Errorf("name cgroup: %w", err)
	}
	return p, nil
}
