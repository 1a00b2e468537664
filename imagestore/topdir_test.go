package imagestore

import (
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What is made for containers and pulls is spread; layers come there by rename.
func TestSpread(t *testing.T) {
	root := t.TempDir()
	var fs unix.Statfs_t
	if err := unix.Statfs(root, &fs); err != nil {
		t.Fatal(err)
	}
	openStore(t, root, testConfig(t))
	for dir, spread := range map[string]bool{"staging": true, "unpacking": true, "layers": false} {
		f, err := os.Open(filepath.Join(root, dir))
		if err != nil {
			t.Fatal(err)
		}
		var flags uint
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.FS_IOC_GETFLAGS, uintptr(unsafe.Pointer(&flags)))
		f.Close()
		if want := spread && fs.Type == unix.EXT4_SUPER_MAGIC; (errno == 0 && flags&topDirFlag != 0) != want {
			t.Errorf("%s: flags %#x (%v), FS_TOPDIR_FL wanted: %v", dir, flags, errno, want)
		}
	}
}
