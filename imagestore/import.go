package imagestore

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/distribution/reference"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/imagestore/archive"
)

// Import brings in the images of a tar file, an OCI layout or a docker archive, plain or compressed by gzip or zstd. r may be a pipe: its
// content passes through a nameless file below the root, which needs room for it. name, when not empty, takes the place of the names in the
// archive, which must then hold one image for this node. An image without any name is kept under its id. Reading r must end when
// ctx does for Import to return at once. Errors: ErrNotArchive, ErrCorrupt, ErrTooLarge, ErrUnsupported, ErrInvalidReference.
func (p *puller) Import(ctx context.Context, r io.Reader, name string) ([]*Image, error) {
	if err := checkImportName(name); err != nil {
		return nil, fmt.Errorf("import images: %w", err)
	}
	images, err := guarded(p.log, "import images", func() ([]*Image, error) { return p.importAll(ctx, r, name) })
	if err != nil {
		return nil, fmt.Errorf("import images: %w", classify(err))
	}
	return images, nil
}

func (p *puller) importAll(ctx context.Context, r io.Reader, name string) ([]*Image, error) {
	spool, err := p.newSpool()
	if err != nil {
		return nil, err
	}
	defer spool.Close()
	a, err := archive.Read(ctx, r, spool, p.cfg.MaxImageBytes, p.cfg.MaxZstdWindow)
	if err != nil {
		return nil, err
	}
	found, err := a.Images(ctx, p.platform)
	if err != nil {
		return nil, err
	}
	if name != "" {
		if len(found) != 1 {
			return nil, fmt.Errorf("%w: a name for %d images", ErrInvalidReference, len(found))
		}
		found[0].Names = []string{name}
	}
	var images []*Image
	for _, f := range found {
		n, err := archiveNames(f)
		if err != nil {
			return nil, err
		}
		img, err := p.installer.install(ctx, a, f.Image, n)
		if err != nil {
			return nil, err
		}
		images = append(images, img)
	}
	return images, nil
}

// checkImportName is asked before the archive is read, which may be long. A digest is what the archive has, not what somebody calls it.
func checkImportName(name string) error {
	if name == "" {
		return nil
	}
	ref, err := parseReference(name)
	if err != nil {
		return err
	}
	if _, byDigest := ref.(reference.Digested); byDigest {
		return fmt.Errorf("%w %q: a tag, or none, is what an import can be given", ErrInvalidReference, name)
	}
	return nil
}

func archiveNames(img archive.Image) (names, error) {
	var n names
	for _, name := range img.Names {
		ref, err := parseReference(name)
		if err != nil {
			return names{}, err
		}
		more := namesOf(ref, img.Manifest.String())
		n.tags, n.digests = append(n.tags, more.tags...), append(n.digests, more.digests...)
	}
	return n, nil
}

// newSpool makes a file without a name (open(2), O_TMPFILE): nothing is left of it when the process ends, however it does.
func (d *dirs) newSpool() (*os.File, error) {
	path := filepath.Join(d.root, "staging")
	fd, err := unix.Open(path, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), "spool"), nil
	}
	file, err := os.CreateTemp(path, "spool-") // a file system without O_TMPFILE
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}
