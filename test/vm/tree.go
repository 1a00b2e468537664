package vm

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/berth-runtime/berth/test/debian"
	"github.com/berth-runtime/berth/test/images"
)

// packages are what the machine has. usr-is-merged stands for a tree that is, and
// spares it the program that would merge it.
var packages = []string{
	"linux-image-cloud-amd64", "systemd", "systemd-sysv", "dbus", "udev", "usr-is-merged", "base-files", "base-passwd", "libc-bin",
	"bash", "dash", "coreutils", "findutils", "grep", "sed", "tar", "gzip", "mount", "util-linux", "procps", "kmod", "e2fsprogs", "xfsprogs",
	"iproute2", "nftables", "apparmor", "hostname", "crun", "checkpolicy", "criu",
}

// files are what the packages' scripts would have set up, as far as it matters here.
var files = map[string]string{
	"etc/hostname":   "vm\n",
	"etc/hosts":      "127.0.0.1 localhost vm\n::1 localhost\n",
	"etc/machine-id": "",
	"etc/fstab":      "",
	"etc/passwd":     "root:x:0:0:root:/root:/bin/bash\nmessagebus:x:100:100::/nonexistent:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
	"etc/group":      "root:x:0:\ntty:x:5:\ndisk:x:6:\nkmem:x:15:\nmessagebus:x:100:\nnogroup:x:65534:\n",
	"etc/systemd/system/vmtest.target": `[Unit]
Requires=basic.target
Wants=vmtest.service dbus.socket
After=basic.target
AllowIsolate=yes
`,
	"etc/systemd/system/vmtest.service": `[Unit]
After=basic.target dbus.socket
[Service]
Type=exec
ExecStart=` + guestProgram + ` serve
StandardError=tty
TTYPath=/dev/ttyS0
Delegate=yes
LimitNOFILE=1048576
TasksMax=infinity
`,
}

// masked are units that only cost time, or want what is not there.
var masked = []string{
	"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer", "apparmor.service",
	"systemd-firstboot.service", "systemd-machine-id-commit.service", "systemd-update-utmp.service", "ldconfig.service",
	"systemd-hwdb-update.service", "systemd-udev-trigger.service", "systemd-networkd.service", "systemd-resolved.service", "sys-kernel-config.mount",
}

// guestProgram is where test/vm/guest puts itself.
const guestProgram = "/run/vm-guest"

// parts are what every machine is made from.
type parts struct {
	qemu string // a tree
	root string // the machine's tree
	disk string // root as a file system, never written to
}

// build makes the parts, or finds them.
func build() (*parts, error) {
	cache, err := images.CacheDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(cache, "vm"), 0o755); err != nil {
		return nil, fmt.Errorf("make cache: %w", err)
	}
	p := &parts{}
	if p.qemu, err = images.Cached("vm/qemu", func(path string) error {
		return debian.Tree(path, "qemu-system-x86", "seabios", "libc-bin")
	}); err != nil {
		return nil, err
	}
	if p.root, err = images.Cached("vm/root-"+recipe(), buildRoot); err != nil {
		return nil, err
	}
	p.disk, err = images.Cached("vm/root-"+recipe()+".img", func(path string) error {
		return makeDisk(p.root, path, p.root, 4096, "^has_journal")
	})
	return p, err
}

// recipe names what the root is made from, so that it is made again when that changes.
func recipe() string {
	h := fnv.New32a()
	fmt.Fprint(h, packages, files, masked) // maps are printed in the order of their keys
	return fmt.Sprintf("%08x", h.Sum32())
}

func buildRoot(root string) error {
	if err := debian.Tree(root, packages...); err != nil {
		return err
	}
	for _, d := range []string{"proc", "sys", "dev", "run", "tmp", "root", "etc/systemd/system", "var/lib"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return fmt.Errorf("lay out root: %w", err)
		}
	}
	if err := os.Chmod(filepath.Join(root, "tmp"), 0o1777); err != nil {
		return fmt.Errorf("lay out root: %w", err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("lay out root: %w", err)
		}
	}
	for _, unit := range masked {
		if err := os.Symlink("/dev/null", filepath.Join(root, "etc/systemd/system", unit)); err != nil {
			return fmt.Errorf("mask unit: %w", err)
		}
	}
	kernel, err := release(root)
	if err != nil {
		return err
	}
	for _, command := range [][]string{{"depmod", kernel}, {"ldconfig"}} {
		if out, err := exec.Command("chroot", append([]string{root}, command...)...).CombinedOutput(); err != nil {
			return fmt.Errorf("run %v in root: %w: %s", command, err, out)
		}
	}
	return nil
}

// release is the kernel's name, as uname -r has it.
func release(root string) (string, error) {
	dirs, err := filepath.Glob(filepath.Join(root, "usr/lib/modules/*"))
	if err == nil && len(dirs) != 1 {
		err = fmt.Errorf("%d directories of modules, not one", len(dirs))
	}
	if err != nil {
		return "", fmt.Errorf("find kernel: %w", err)
	}
	return filepath.Base(dirs[0]), nil
}

// tool is a command that runs a program of an unpacked tree on this machine, with the
// tree's own libraries.
func tool(tree, program string, args ...string) *exec.Cmd {
	lib := filepath.Join(tree, "usr/lib/x86_64-linux-gnu")
	all := append([]string{"--library-path", lib + ":" + lib + "/pulseaudio", filepath.Join(tree, program)}, args...)
	return exec.Command(filepath.Join(tree, "usr/lib64/ld-linux-x86-64.so.2"), all...)
}

// makeDisk makes the file of an ext4 file system with the content of dir ("": none),
// and so many MiB more.
func makeDisk(root, path, dir string, more int64, features string) error {
	args := []string{"-q", "-F", "-t", "ext4", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1"}
	if features != "" {
		args = append(args, "-O", features)
	}
	size := more
	if dir != "" {
		used, err := usage(dir)
		if err != nil {
			return err
		}
		size += used * 12 / 10
		args = append(args, "-d", dir)
	}
	if out, err := tool(root, "usr/sbin/mke2fs", append(args, path, fmt.Sprintf("%dM", size))...).CombinedOutput(); err != nil {
		return fmt.Errorf("make file system of %s: %w: %s", dir, err, out)
	}
	return nil
}

// usage is what the files below dir take, in MiB.
func usage(dir string) (int64, error) {
	out, err := exec.Command("du", "-sm", "--apparent-size", dir).Output()
	if err != nil {
		return 0, fmt.Errorf("measure %s: %w", dir, err)
	}
	var n int64
	if _, err := fmt.Sscan(strings.TrimSpace(string(out)), &n); err != nil {
		return 0, errors.Join(fmt.Errorf("measure %s", dir), err)
	}
	return n, nil
}
