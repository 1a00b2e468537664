package program

import "golang.org/x/sys/unix"

// labelled are the options of a file system all of whose files have an SELinux label ("": none), mount(8).
func labelled(options []string, label string) []string {
	if label == "" {
		return options
	}
	return append(options, "context="+label)
}

// labelRoot labels the root of a file system that takes no label for all of its files in a user namespace. One that takes
// none at all stays as the policy has it.
func (b *builder) labelRoot(mount Reg, label string) {
	r := b.reg()
	b.call(unix.SYS_OPENAT, mount.arg(), b.str("."), flags(unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, "O_RDONLY|O_DIRECTORY")).into(r)
	b.call(unix.SYS_FSETXATTR, r.arg(), b.str("security.selinux"), b.str(label), num(int64(len(label))), num(0)).fine(unix.ENOTSUP)
	b.close(r)
}
