package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/berth-runtime/berth/oci/cgroup"
	"github.com/berth-runtime/berth/oci/criu"
	"github.com/berth-runtime/berth/oci/selinux"
	"github.com/berth-runtime/berth/sandbox"
	"github.com/google/nftables"
	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"
)

// works says whether a probe finds its feature.
func works(probe func() (string, error)) bool {
	_, err := probe()
	return err == nil
}

// nodeFeatures lists what berth uses, the indispensable first.
func nodeFeatures() []feature {
	return []feature{
		{"kernel 5.15", true, "older ones lack system calls that berth stands on", kernel(5, 15)},
		{"capabilities for pods", true, "the daemon can't set up pods", capabilities(neededCapabilities)},
		{"cgroups", true, "containers can't be limited, nor found", cgroups},
		{"clone3", true, "containers can't be started", clone3},
		{"openat2", true, "paths can't be kept inside a container's root", openat2},
		{"mount API", true, "file systems can't be mounted detached", detachedMount},
		{"mount_setattr", true, "volumes can't be read-only or mapped", mountSetattr},
		{"overlay", true, "images have no root file system", fileSystem("overlay")},
		{"pidfd", true, "processes can't be signalled safely", pidfd},
		{"seccomp filters", true, "the default profile can't be loaded", readable("/proc/sys/kernel/seccomp/actions_avail")},
		{"nf_tables", false, "no host ports, and no masquerade in the built-in network", nfTables},
		{"user namespaces", false, "pods with hostUsers: false are refused", userNamespaces},
		{"CAP_SYS_RESOURCE", false, "oom_score_adj and rlimits are clamped to what the daemon has", capabilities([]capability.Cap{capability.CAP_SYS_RESOURCE})},
		{"overlay lowerdir+", false, "layers go by mount(2) options, in one page (Linux 6.7)", overlayLayers},
		{"layers as files", false, "layers of images are directories, which take longer to make (Linux 6.12 with EROFS)", erofsLayers},
		{"exit codes by pidfd", false, "the exit code of a process that ends while no keeper runs is unknown (Linux 6.15)", kernel(6, 15)},
		{"AppArmor", false, "AppArmor profiles can't be applied", appArmor},
		{"SELinux", false, "SELinux labels can't be applied", seLinux},
		{"criu", false, "containers can't be checkpointed", criuWorks},
	}
}

// criuWorks asks the criu in PATH: of a configuration that names another, this command knows nothing.
func criuWorks() (string, error) {
	err := criu.New(sandbox.DefaultConfig().CRIU).Check(context.Background())
	if err != nil { // that checkpoints are not possible then is said behind it
		err = errors.New(strings.TrimPrefix(err.Error(), criu.ErrUnusable.Error()+": "))
	}
	return "criu check is content", err
}

// kernel compares the running kernel's release, of which the first two numbers
// count.
func kernel(major, minor int) func() (string, error) {
	return func() (string, error) {
		var name unix.Utsname
		if err := unix.Uname(&name); err != nil {
			return "", fmt.Errorf("uname: %w", err)
		}
		release := unix.ByteSliceToString(name.Release[:])
		a, b, err := parseRelease(release)
		if err != nil {
			return "", err
		}
		if a < major || a == major && b < minor {
			return "", fmt.Errorf("this is %s", release)
		}
		return release, nil
	}
}

// parseRelease reads "6.1.0-18-amd64".
func parseRelease(release string) (major, minor int, err error) {
	first, rest, _ := strings.Cut(release, ".")
	second := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
	major, err1 := strconv.Atoi(first)
	minor, err2 := strconv.Atoi(second)
	if err := errors.Join(err1, err2); err != nil {
		return 0, 0, fmt.Errorf("read kernel release %q: %w", release, err)
	}
	return major, minor, nil
}

// neededCapabilities are those that preparing any pod takes. Containers get at
// most what the daemon has.
var neededCapabilities = []capability.Cap{
	capability.CAP_CHOWN, capability.CAP_DAC_OVERRIDE, capability.CAP_FOWNER, capability.CAP_KILL,
	capability.CAP_MKNOD, capability.CAP_NET_ADMIN, capability.CAP_SETGID, capability.CAP_SETPCAP,
	capability.CAP_SETUID, capability.CAP_SYS_ADMIN, capability.CAP_SYS_CHROOT,
}

func capabilities(needed []capability.Cap) func() (string, error) {
	return func() (string, error) {
		own, err := capability.NewPid2(0)
		if err != nil {
			return "", fmt.Errorf("read capabilities: %w", err)
		}
		if err := own.Load(); err != nil {
			return "", fmt.Errorf("read capabilities: %w", err)
		}
		var missing []string
		for _, c := range needed {
			if !own.Get(capability.EFFECTIVE, c) {
				missing = append(missing, "CAP_"+strings.ToUpper(c.String()))
			}
		}
		switch {
		case len(missing) > 0 && len(needed) == 1:
			return "", errors.New("not granted")
		case len(missing) > 0:
			return "", fmt.Errorf("not granted %s", strings.Join(missing, ", "))
		case len(needed) == 1:
			return "granted", nil
		}
		return fmt.Sprintf("all %d", len(needed)), nil
	}
}

// cgroupMount is where the hierarchy is mounted, by file-hierarchy(7) and every
// distribution.
const cgroupMount = "/sys/fs/cgroup"

func cgroups() (string, error) {
	tree, err := cgroup.Detect(cgroupMount)
	if err != nil {
		return "", err
	}
	if tree.Mode() == cgroup.V1 {
		return "v1", nil
	}
	return "v2", nil
}

// nfTables asks the kernel for its tables, which loads the module.
func nfTables() (string, error) {
	conn, err := nftables.New()
	if err != nil {
		return "", fmt.Errorf("open netlink: %w", err)
	}
	tables, err := conn.ListTables()
	if err != nil {
		return "", fmt.Errorf("list tables: %w", err)
	}
	return fmt.Sprintf("%d tables", len(tables)), nil
}

// userNamespaces needs them allowed, and a kernel that maps the ids of an overlay
// (Linux 5.19), for images belong to root.
func userNamespaces() (string, error) {
	if _, err := kernel(5, 19)(); err != nil {
		return "", err
	}
	text, err := readable("/proc/sys/user/max_user_namespaces")()
	if err == nil && text == "0" {
		return "", errors.New("user.max_user_namespaces is 0")
	}
	return "up to " + text, err
}

func appArmor() (string, error) {
	text, err := readable("/sys/module/apparmor/parameters/enabled")()
	if err == nil && text != "Y" {
		return "", errors.New("not enabled")
	}
	return "enabled", err
}

func seLinux() (string, error) {
	if err := new(selinux.Host).Ready(); err != nil {
		return "", err
	}
	return "enabled, with contexts for containers", nil
}

// readable probes a file that the kernel has only with the feature.
func readable(path string) func() (string, error) {
	return func() (string, error) {
		data, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return "", errors.New("not in this kernel")
		}
		if err != nil {
			return "", err
		}
		return strings.TrimSpace(string(data)), nil
	}
}
