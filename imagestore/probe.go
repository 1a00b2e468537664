package imagestore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/imagestore/erofs"
	"github.com/berth-runtime/berth/imagestore/overlay"
)

const (
	// probeFile and probeText are what the image that is tried has in it.
	probeFile = "probe"
	probeText = "berth\n"
)

// probeErofs tries whether layers that are files can be used: mounts a small one that it makes below dir, makes an overlay over that with what is
// written below dir too, and reads through it. Nothing stays. Where it fails the kernel is older than 6.12 or has no EROFS of files, or the file system
// that dir is on can't be below one.
func probeErofs(dir string, mounter *overlay.Mounter) (err error) {
	at, err := os.MkdirTemp(dir, "probe-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(at)) }()
	image, upper, work := filepath.Join(at, "image"), filepath.Join(at, "upper"), filepath.Join(at, "work")
	if err := errors.Join(writeProbe(image), os.Mkdir(upper, 0o700), os.Mkdir(work, 0o700)); err != nil {
		return err
	}
	layer, err := erofs.Mount(image)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mounter.Release(layer)) }()
	root, err := mounter.Mount(overlay.Options{Lowers: []overlay.Lower{{Path: image, Mount: layer}}, Upper: upper, Work: work, Volatile: true})
	if err != nil {
		return err
	}
	defer root.Close()
	text, err := os.ReadFile(filepath.Join(overlay.Lower{Mount: root}.Reach(), probeFile))
	if err == nil && string(text) != probeText {
		err = fmt.Errorf("a file in an EROFS image of %s reads %q: %w", at, text, unix.EIO)
	}
	return err
}

// writeProbe makes an EROFS image with one file in it.
func writeProbe(path string) error {
	file := &erofs.Inode{Mode: unix.S_IFREG | 0o644, Start: erofs.HeaderSize, Size: int64(len(probeText))}
	root := &erofs.Inode{Mode: unix.S_IFDIR | 0o755, Entries: map[string]*erofs.Inode{probeFile: file}}
	plan, err := erofs.Lay(root, 2*erofs.HeaderSize)
	if err != nil {
		return err
	}
	var image bytes.Buffer
	image.Write(plan.Header())
	image.WriteString(probeText)
	image.Write(make([]byte, plan.Base()-int64(image.Len())))
	if _, err := plan.WriteTo(&image); err != nil {
		return err
	}
	return os.WriteFile(path, image.Bytes(), 0o600)
}
