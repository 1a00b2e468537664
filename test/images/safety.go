package images

import (
	"archive/tar"
	"encoding/binary"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Outside is a directory of the host that the images of Safety lead to by symlinks and names. A test
// makes it, and nothing may ever appear in it; in the images the same path is a directory of theirs.
const Outside = "/tmp/berth-test-outside"

// SafetyRef is the reference of one of the images of Safety.
func SafetyRef(name string) string { return FormatHost + "/safety:" + name }

// Safety returns the images that try to get out of their container once they run, and the one that
// looks around there.
func (b *Builder) Safety() ([]Named, error) {
	look, err := Program("test/images/programs/look")
	if err != nil {
		return nil, err
	}
	plain := new(Tree).File("bin/look", 0o755, look)
	up := climb + Outside
	inside := strings.TrimPrefix(Outside, "/")
	var products []product
	add := func(name string, config v1.Config, trees ...*Tree) {
		if config.Cmd == nil {
			config.Cmd = []string{"look"}
		}
		layers := append([]*Tree{b.base, plain}, trees...)
		products = append(products, product{recipe{layers: layers, config: config}, []string{SafetyRef(name)}})
	}
	add("look", v1.Config{}, inheritable(look))
	add("self", v1.Config{Cmd: []string{"/bin/self", "pause"}}, new(Tree).Symlink("bin/self", "/proc/self/exe"))
	// The targets exist inside the image too, so that the mounts succeed, and land there.
	add("links", v1.Config{}, new(Tree).
		Dir(inside, 0o755).Dir(inside+"/dev", 0o755).Dir(inside+"/data", 0o755).
		Symlink("dev", up+"/dev").Symlink("data", Outside+"/data").Symlink("chain", "data/../data").
		Symlink("etc/hosts", up+"/hosts").Symlink("etc/hostname", Outside+"/hostname").Symlink("etc/resolv.conf", "../../"+up+"/resolv.conf"))
	for name, target := range map[string]string{"relative": "etc", "absolute": Outside, "climb": up} {
		add("proc-"+name, v1.Config{}, new(Tree).Dir(inside, 0o755).Symlink("proc", target))
		add("sys-"+name, v1.Config{}, new(Tree).Dir(inside, 0o755).Symlink("sys", target))
	}
	// Volumes of these names would cover what the runtime reads and writes in proc and sysfs. The image has
	// directories there itself, so that the mounts succeed.
	add("cover", v1.Config{}, new(Tree).
		Dir("proc/sys", 0o755).Dir("proc/sys/net", 0o755).Dir("proc/self", 0o755).Dir("proc/self/attr", 0o755).Dir("proc/acpi", 0o755).
		Dir("sys/fs", 0o755).Dir("sys/fs/cgroup", 0o755).
		Symlink("on-proc", "/proc").Symlink("on-sys", "/sys").Symlink("on-sysctl", "proc/sys/net").Symlink("on-attr", "/proc/self/attr").
		Symlink("on-cgroup", "/sys/fs/cgroup").Symlink("on-masked", "/proc/acpi"))
	add("workdir", v1.Config{WorkingDir: "/work"}, new(Tree).Symlink("work", "/proc/self/fd/8"))
	add("volumes", v1.Config{Volumes: map[string]struct{}{
		"/../../../../../../.." + Outside: {}, "/linked": {}, "/climbing": {}, "relative/../../../../.." + Outside: {},
	}}, new(Tree).Dir(inside, 0o755).Symlink("linked", Outside).Symlink("climbing", up))
	for name, user := range map[string]string{
		"user-2-31": "2147483648", "user-2-32": "4294967296", "user-2-32-1": "4294967297:4294967296", "user-minus": "-1", "user-2-64": "18446744073709551616",
	} {
		add(name, v1.Config{User: user})
	}
	passwd := new(Tree).Text("etc/passwd", passwd+"wrap:x:4294967296:4294967296::/:/bin/sh\n")
	add("user-named", v1.Config{User: "wrap"}, passwd)
	return b.named(products)
}

// inheritable adds bin/inheriting: the program with file capabilities that take effect only in as far as
// the process's inheritable set has them (capabilities(7), "Transformation of capabilities during execve").
func inheritable(program []byte) *Tree {
	const revision2, effective, all = 0x02000000, 1, 0xa80425fb
	var raw []byte
	for _, word := range []uint32{revision2 | effective, 0, all, 0, 0} { // struct vfs_cap_data: magic, permitted and inheritable low, then high
		raw = binary.LittleEndian.AppendUint32(raw, word)
	}
	return new(Tree).Entry(tar.Header{
		Typeflag: tar.TypeReg, Name: "bin/inheriting", Mode: 0o755, Format: tar.FormatPAX,
		PAXRecords: map[string]string{"SCHILY.xattr.security.capability": string(raw)},
	}, program)
}
