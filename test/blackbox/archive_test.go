package blackbox

import (
	"archive/tar"
	"compress/gzip"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/berth-runtime/berth/test/images"
)

// archives write one image, which prints its user, in the forms that can be imported.
var archives = map[string]func(path string) error{
	"docker":      writeDockerArchive,
	"docker-gzip": compressed(writeDockerArchive),
	"layout":      writeLayoutArchive,
}

func archivedImage() (v1.Image, error) {
	program, err := images.Program("test/images/programs/nnp")
	if err != nil {
		return nil, err
	}
	return images.Single(new(images.Tree).File("nnp", 0o755, program), v1.Config{Cmd: []string{"/nnp"}})
}

func writeDockerArchive(path string) error {
	img, err := archivedImage()
	if err != nil {
		return err
	}
	tag, err := name.NewTag("archive.berth.test/original:1")
	if err != nil {
		return err
	}
	return tarball.WriteToFile(path, tag, img)
}

// writeLayoutArchive writes an OCI layout, as a tar.
func writeLayoutArchive(path string) error {
	img, err := archivedImage()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "berth-test-layout-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	if err := l.AppendImage(img); err != nil {
		return err
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	w := tar.NewWriter(out)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		return err
	}
	return w.Close()
}

func compressed(write func(string) error) func(string) error {
	return func(path string) error {
		if err := write(path); err != nil {
			return err
		}
		plain, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		out, err := os.Create(path)
		if err != nil {
			return err
		}
		defer out.Close()
		w := gzip.NewWriter(out)
		if _, err := w.Write(plain); err != nil {
			return err
		}
		return w.Close()
	}
}
