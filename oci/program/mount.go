package program

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// rootSlot is the descriptor of the container's root mount: the base of every path that a program
// opens after pivot_root.
const rootSlot = "root"

// Ways to resolve a path inside the container.
const (
	// inRoot lets symlinks lead anywhere below the root, as if it were chrooted (openat2(2)).
	inRoot = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS
	// noLinks is for paths on proc and sysfs: nothing there that we name is a symlink, so one is an attack
	// (CVE-2019-16884, CVE-2019-19921).
	noLinks = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS
)

// open opens a path below base by openat2 and returns the step for its result and fine errnos.
func (b fileSteps) open(base Arg, name string, how, mode, resolve uint64, text string) *Step {
	if resolve == noLinks {
		text += " in-root no-symlinks"
	} else {
		text += " in-root"
	}
	rel := strings.TrimPrefix(absolute(name), "/")
	if rel == "" {
		rel = "."
	}
	return b.call(unix.SYS_OPENAT2, base, b.str(rel), b.words(text, how|unix.O_CLOEXEC, mode, resolve), num(24))
}

// openDir opens a directory below the root, making what is missing of it with mode 0755. The register
// that it returns is the caller's to close.
func (b fileSteps) openDir(name string, resolve uint64) Reg {
	root := b.fd(rootSlot)
	r := b.reg()
	const how, text = unix.O_PATH | unix.O_DIRECTORY, "O_PATH|O_DIRECTORY"
	b.open(root, name, how, 0, resolve, text).into(r).fine(unix.ENOENT)
	there := b.last()
	parts := strings.Split(strings.TrimPrefix(absolute(name), "/"), "/")
	parent, held := root, Reg(0)
	for i, part := range parts {
		if part != "" {
			b.call(unix.SYS_MKDIRAT, parent, b.str(part), flags(0o755, "0755")).fine(unix.EEXIST)
		}
		next := r
		if i < len(parts)-1 {
			next = b.reg()
		}
		b.open(root, strings.Join(parts[:i+1], "/"), how, 0, resolve, text).into(next)
		if held != 0 {
			b.close(held)
		}
		parent, held = next.arg(), next
	}
	b.okHere(there)
	return r
}

// openFile opens a file below the root, making it empty with mode 0644 where it is missing, and its
// directory with it. It follows no magic link, and opens no existing file for more than O_PATH.
func (b fileSteps) openFile(name string, resolve uint64) Reg {
	root := b.fd(rootSlot)
	r := b.reg()
	b.open(root, name, unix.O_PATH, 0, resolve, "O_PATH").into(r).fine(unix.ENOENT)
	there := b.last()
	if dir := path.Dir(path.Clean("/" + name)); dir != "/" {
		b.close(b.openDir(dir, resolve))
	}
	b.open(root, name, unix.O_CREAT|unix.O_WRONLY|unix.O_NONBLOCK, 0o644, resolve, "O_CREAT|O_WRONLY").into(r)
	b.okHere(there)
	return r
}

// attach mounts a detached mount on a path below the root; its mountpoint is made where it is missing.
func (b fileSteps) attach(mount Arg, dest string, dir bool) {
	resolve := resolveFor(dest)
	var t Reg
	if dir {
		t = b.openDir(dest, resolve)
	} else {
		t = b.openFile(dest, resolve)
	}
	b.moveTo(mount, t)
	b.close(t)
}

// moveTo mounts a detached mount on what register t holds.
func (b fileSteps) moveTo(mount Arg, t Reg) {
	b.call(unix.SYS_MOVE_MOUNT, mount, b.str(""), t.arg(), b.str(""),
		flags(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH, "F_EMPTY_PATH|T_EMPTY_PATH"))
}

func resolveFor(dest string) uint64 {
	if under(dest, "/proc") || under(dest, "/sys") {
		return noLinks
	}
	return inRoot
}

func under(p, dir string) bool {
	p = absolute(p)
	return p == dir || strings.HasPrefix(p, dir+"/")
}

// pivot makes the container's root mount the process's root.
func (b rootSteps) pivot() { b.pivotTo(b.fd(rootSlot)) }

// pivotTo makes a detached mount the process's root and takes the host's away. The new root is mounted over
// the old one, so that no directory of the host is needed; with "." for both, pivot_root(2) stacks the
// old root on the new, where it can be detached.
func (b rootSteps) pivotTo(root Arg) {
	b.labelf("make the root file system the root")
	b.call(unix.SYS_MOUNT, num(0), b.str("/"), num(0), flags(unix.MS_REC|unix.MS_SLAVE, "MS_REC|MS_SLAVE"))
	b.call(unix.SYS_MOVE_MOUNT, root, b.str(""), cwd(), b.str("/"), flags(unix.MOVE_MOUNT_F_EMPTY_PATH, "F_EMPTY_PATH"))
	b.changeRoot(root)
}

// pivotInto makes the container's root mount the process's root when it is attached already (attachRoot).
func (b rootSteps) pivotInto() {
	b.labelf("make the root file system the root")
	b.changeRoot(b.fd(rootSlot))
}

func (b rootSteps) changeRoot(root Arg) {
	b.call(unix.SYS_FCHDIR, root)
	// A copy of a mount of the host is its peer, and pivot_root(2) takes no shared root.
	b.call(unix.SYS_MOUNT, num(0), b.str("."), num(0), flags(unix.MS_REC|unix.MS_SLAVE, "MS_REC|MS_SLAVE"))
	b.call(unix.SYS_PIVOT_ROOT, b.str("."), b.str("."))
	b.call(unix.SYS_UMOUNT2, b.str("."), flags(unix.MNT_DETACH, "MNT_DETACH"))
	b.call(unix.SYS_CHDIR, b.str("/"))
}

// absolute is a path, clean and from the root on. For one that is so already it costs nothing.
func absolute(p string) string {
	if strings.HasPrefix(p, "/") {
		return path.Clean(p)
	}
	return path.Clean("/" + p)
}
