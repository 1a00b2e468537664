package images

import (
	"archive/tar"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Volumes is an image that declares the volumes /data, which it has content of, /srv/new, which it does not have,
// and /proc, which no image gets.
const Volumes = FormatHost + "/volumes:latest"

func (b *Builder) volumes() product {
	tree := new(Tree).
		Entry(tar.Header{Typeflag: tar.TypeDir, Name: "data/", Mode: 0o1770, Uid: 33, Gid: 34}, nil).
		Entry(tar.Header{Typeflag: tar.TypeReg, Name: "data/file", Mode: 0o640, Uid: 1000, Gid: 1001}, []byte("of the image\n")).
		Link("data/hard", "data/file").Symlink("data/out", climb+"/etc/passwd")
	config := v1.Config{Cmd: []string{"sh"}, Volumes: map[string]struct{}{"/data": {}, "srv/new/": {}, "/proc": {}}}
	return product{recipe{layers: []*Tree{b.base, tree}, config: config}, []string{Volumes}}
}
