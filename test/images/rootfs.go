package images

import "archive/tar"

const passwd = `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
sync:x:4:100:sync:/bin:/bin/sync
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
operator:x:37:37:Operator:/var:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
`

const group = `root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
lp:x:7:
mail:x:8:
kmem:x:9:
wheel:x:10:root
cdrom:x:11:
dialout:x:18:
floppy:x:19:
video:x:28:
audio:x:29:
tape:x:32:
www-data:x:33:
operator:x:37:
utmp:x:43:
plugdev:x:46:
staff:x:50:
lock:x:54:
netdev:x:82:
users:x:100:
nobody:x:65534:
`

const shadow = `root:*:10933:0:99999:7:::
nobody:*:10933:0:99999:7:::
`

// busyboxTree is the content of Docker's busybox image: every applet a hard link.
func busyboxTree(b *busybox) *Tree {
	t := new(Tree).Dir("bin", 0o755).File("bin/busybox", 0o755, b.program)
	for _, a := range b.applets {
		if a != "busybox" {
			t.Link("bin/"+a, "bin/busybox")
		}
	}
	t.Dir("dev", 0o755).Dir("etc", 0o755).
		Text("etc/passwd", passwd).Text("etc/group", group).File("etc/shadow", 0o640, []byte(shadow))
	t.Entry(tar.Header{Typeflag: tar.TypeDir, Name: "home/", Mode: 0o755, Uid: 65534, Gid: 65534}, nil)
	t.Dir("proc", 0o755).Dir("root", 0o700).Dir("run", 0o755).Dir("sys", 0o755).Dir("tmp", 0o1777)
	t.Dir("usr", 0o755).Dir("usr/bin", 0o755).Link("usr/bin/env", "bin/busybox").Dir("usr/sbin", 0o755).Dir("usr/local", 0o755).Dir("usr/local/bin", 0o755)
	return t.Dir("var", 0o755).Symlink("var/run", "/run").Dir("var/www", 0o755)
}
