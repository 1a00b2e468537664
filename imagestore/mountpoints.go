package imagestore

import (
	"fmt"
	"os"
	"path/filepath"
)

// mountpoints is the directory that lies below every snapshot's layers: empty files and directories where any container gets something
// mounted. Images rarely have them all, and making them in each snapshot's own layer cost up to ten inodes on disk, and the copy of the
// image's /etc, at every start: a third of it on an ext4 that has been busy deleting. What an image has in the same place covers them.
const mountpoints = "mountpoints"

// makeMountpoints makes the directory; it may be called again.
func makeMountpoints(dir string) error {
	for _, d := range []string{"dev", "proc", "sys", "etc"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return fmt.Errorf("make mountpoints: %w", err)
		}
	}
	for _, name := range []string{"etc/hosts", "etc/hostname", "etc/resolv.conf"} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			return fmt.Errorf("make mountpoints: %w", err)
		}
		if err := f.Close(); err != nil {
			return fmt.Errorf("make mountpoints: %w", err)
		}
	}
	return nil
}
