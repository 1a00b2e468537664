package program

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// pathBase finds where a path is to be opened from: proc, sysfs and /dev through the mounts that we made, so
// that nothing mounted or linked over them can stand in between.
func (b maskSteps) pathBase(p string, fs map[string]Reg) (Arg, string) {
	p = absolute(p)
	for dir, kind := range map[string]string{"/proc": "proc", "/sys": "sysfs", "/dev": devices} {
		if r, ok := fs[kind]; ok && under(p, dir) {
			return r.arg(), strings.TrimPrefix(p, dir)
		}
	}
	return b.fd(rootSlot), p
}

// readonlyPaths remounts each path, with what is mounted below it, read-only. What doesn't exist is
// passed over (runtime-spec, "Readonly Paths" leaves it open; all runtimes do so).
func (b maskSteps) readonlyPaths(paths []string, fs map[string]Reg) {
	for _, p := range paths {
		b.labelf("make %s read-only", p)
		base, rel := b.pathBase(p, fs)
		t := b.reg()
		b.open(base, rel, unix.O_PATH, 0, resolveFor(p), "O_PATH").into(t).fine(unix.ENOENT)
		absent := b.last()
		tree := b.reg()
		b.call(unix.SYS_OPEN_TREE, t.arg(), b.str(""),
			flags(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, "CLONE|EMPTY_PATH|RECURSIVE")).into(tree)
		b.setattr(tree.arg(), unix.MOUNT_ATTR_RDONLY, true)
		b.moveTo(tree.arg(), t)
		b.close(tree)
		b.close(t)
		b.fineHere(absent)
	}
}

// maskedPaths hides each path: a directory under an empty read-only tmpfs, the same for all, and a file
// under the container's null device, which this program has just made or mounted by itself on a /dev
// that nobody else has seen yet, and opens without following links (CVE-2025-31133). A detached mount
// of the host's can't be copied here: the kernel ties it to the mount namespace it was made in.
func (b maskSteps) maskedPaths(paths []string, fs map[string]Reg, label string) {
	if len(paths) == 0 {
		return
	}
	b.labelf("make the empty file system for masked paths")
	empty := b.filesystem("tmpfs", "tmpfs", labelled([]string{"ro", "nosuid", "nodev", "noexec", "size=4k", "nr_inodes=1"}, label))
	// Over the root for as long as it is copied: before Linux 6.15 a detached mount can't be. Paths are opened
	// from what lies below it.
	b.call(unix.SYS_MOVE_MOUNT, empty.arg(), b.str(""), cwd(), b.str("/"), flags(unix.MOVE_MOUNT_F_EMPTY_PATH, "F_EMPTY_PATH"))
	b.labelf("open the null device for masked files")
	null := b.reg()
	base, rel := b.pathBase("/dev/null", fs)
	b.open(base, rel, unix.O_PATH, 0, noLinks, "O_PATH").into(null)
	for _, p := range paths {
		b.labelf("mask %s", p)
		base, rel := b.pathBase(p, fs)
		t := b.reg()
		b.open(base, rel, unix.O_PATH|unix.O_DIRECTORY, 0, resolveFor(p), "O_PATH|O_DIRECTORY").into(t).fine(unix.ENOENT, unix.ENOTDIR)
		noDir := b.last()
		b.cover(empty.arg(), t)
		dirDone := b.last() // a close, which can't but succeed: it skips the file's steps
		b.fineHere(noDir)
		b.open(base, rel, unix.O_PATH, 0, resolveFor(p), "O_PATH").into(t).fine(unix.ENOENT)
		absent := b.last()
		b.cover(null.arg(), t)
		b.fineHere(absent)
		b.okHere(dirDone)
		b.free = append(b.free, t)
	}
	b.labelf("put the empty file system away")
	b.call(unix.SYS_FCHDIR, empty.arg())
	b.call(unix.SYS_UMOUNT2, b.str("."), flags(unix.MNT_DETACH, "MNT_DETACH"))
	b.call(unix.SYS_CHDIR, b.str("/"))
	b.close(null)
	b.close(empty)
}

// cover mounts a copy of a detached mount on what t holds, and closes t.
func (b maskSteps) cover(mount Arg, t Reg) {
	tree := b.reg()
	b.call(unix.SYS_OPEN_TREE, mount, b.str(""), flags(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH, "CLONE|EMPTY_PATH")).into(tree)
	b.moveTo(tree.arg(), t)
	b.close(tree)
	b.call(unix.SYS_CLOSE, t.arg())
}

// sysctl writes one sysctl through the container's own proc.
func (b maskSteps) sysctl(proc Reg, key, value string) {
	b.labelf("set sysctl %s", key)
	if proc == 0 {
		b.fail("sysctl %s: the container mounts no proc", key)
		return
	}
	r := b.reg()
	b.open(proc.arg(), "sys/"+sysctlPath(key), unix.O_WRONLY, 0, noLinks, "O_WRONLY").into(r)
	b.call(unix.SYS_WRITE, r.arg(), b.str(value), num(int64(len(value))))
	b.close(r)
}

func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
