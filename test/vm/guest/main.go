// Command guest is what a test's virtual machine runs beside Debian's programs:
//
//   - as /init of its initial file system it loads the drivers, mounts the root and
//     gives the machine to systemd or to itself;
//   - as PID 1 it mounts what a node has mounted, with cgroup v2 alone, and reaps;
//   - guest serve runs what the host asks for.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/test/vm/wire"
)

// program is where the guest is once the root is mounted.
const program = "/run/vm-guest"

func main() {
	var err error
	switch {
	case len(os.Args) > 1 && os.Args[1] == "serve":
		err = serve()
	case os.Getpid() != 1:
		err = fmt.Errorf("runs as PID 1 of a virtual machine, and nowhere else")
	case len(os.Args) > 1 && os.Args[1] == "reap":
		err = reap()
	default:
		err = enter()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		time.Sleep(100 * time.Millisecond) // for the console
		os.Exit(1)
	}
}

// options are the words of the kernel's command line that begin with key, without it.
func options(key string) []string {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil
	}
	var out []string
	for word := range strings.FieldsSeq(string(line)) {
		if value, ok := strings.CutPrefix(word, key); ok {
			out = append(out, value)
		}
	}
	return out
}

// mount makes the mountpoint first.
func mount(kind, at string, flags uintptr, data string) error {
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(kind, at, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", kind, at, err)
	}
	return nil
}

// enter goes from the initial file system to the root on the first disk.
func enter() error {
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		if err := mount(m[0], m[1], 0, ""); err != nil {
			return err
		}
	}
	if err := loadModules(); err != nil {
		return err
	}
	if err := mountDisk("vda", "/root"); err != nil {
		return err
	}
	if err := mount("tmpfs", "/root/run", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return err
	}
	self, err := os.ReadFile("/init")
	if err == nil {
		err = os.WriteFile("/root"+program, self, 0o755)
	}
	if err != nil {
		return fmt.Errorf("take along the guest: %w", err)
	}
	next := []string{program, "reap"}
	if len(options(wire.SystemdKey)) > 0 {
		next = []string{"/lib/systemd/systemd"}
	}
	for _, from := range []string{"/proc", "/sys", "/dev"} {
		if err := unix.Mount(from, "/root"+from, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", from, err)
		}
	}
	// switch_root(8): the initial file system can't be unmounted, nor pivoted from.
	if err := unix.Chdir("/root"); err != nil {
		return fmt.Errorf("go to the root: %w", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("enter the root: %w", err)
	}
	return unix.Exec(next[0], next, []string{"PATH=" + path, "HOME=/root", "TERM=dumb"})
}

const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// loadModules loads what stands in /modules, whose names sort in their order.
func loadModules() error {
	names, err := filepath.Glob("/modules/*")
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && err != unix.EEXIST {
			return fmt.Errorf("load %s: %w", name, err)
		}
	}
	return nil
}

// mountDisk waits for a disk, whose driver may have just been loaded.
func mountDisk(name, at string) error {
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	for tries := 0; ; tries++ {
		err := unix.Mount("/dev/"+name, at, "ext4", unix.MS_NOATIME, "")
		if err == nil {
			return nil
		}
		if tries > 500 {
			return fmt.Errorf("mount /dev/%s on %s: %w", name, at, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// reap is PID 1 of a machine without systemd: what a node has mounted at start, the
// server, and the end of every process that has lost its parent.
func reap() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share mounts: %w", err)
	}
	const quiet = unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV
	for _, m := range []struct {
		kind, at, data string
		flags          uintptr
	}{
		{"devpts", "/dev/pts", "gid=5,mode=620,ptmxmode=666", unix.MS_NOSUID | unix.MS_NOEXEC},
		{"tmpfs", "/dev/shm", "mode=1777", unix.MS_NOSUID | unix.MS_NODEV},
		{"mqueue", "/dev/mqueue", "", quiet},
		{"hugetlbfs", "/dev/hugepages", "", unix.MS_NOSUID | unix.MS_NODEV},
		{"cgroup2", "/sys/fs/cgroup", "nsdelegate,memory_recursiveprot", quiet},
		{"securityfs", "/sys/kernel/security", "", quiet},
		{"bpf", "/sys/fs/bpf", "mode=700", quiet},
	} {
		if err := mount(m.kind, m.at, m.flags, m.data); err != nil {
			return err
		}
	}
	if err := unix.Sethostname([]byte("vm")); err != nil {
		return fmt.Errorf("name the machine: %w", err)
	}
	if out, err := exec.Command("/sbin/ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("start loopback: %w: %s", err, out)
	}
	server := exec.Command(program, "serve")
	server.Env = append(os.Environ(), "PATH="+path)
	server.Stdout, server.Stderr = os.Stdout, os.Stderr
	if err := server.Start(); err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	for {
		if _, err := unix.Wait4(-1, nil, 0, nil); err != nil && err != unix.EINTR {
			time.Sleep(10 * time.Millisecond) // ECHILD: everything has ended
		}
	}
}
