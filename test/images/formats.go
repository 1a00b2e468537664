package images

import (
	"archive/tar"
	"fmt"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// FormatHost serves the images that are berth's tests' own.
const FormatHost = "registry.berth.test"

// Layers is an image of three layers that exercise everything a layer can say; see
// Builder.Formats.
const Layers = FormatHost + "/layers:latest"

// Formats returns one image of busybox in every form that a registry may serve it
// in, as FORMAT of registry.berth.test/format:FORMAT, and Layers:
//
//	gzip, zstd, plain   a single OCI manifest, by compression of its layers
//	mixed               a gzip and a zstd layer
//	docker              Docker schema 2
//	index, docker-list  an index, a manifest list, with a wrong platform first
func (b *Builder) Formats() ([]Named, error) {
	config := v1.Config{Cmd: []string{"sh"}}
	var out []Named
	for _, f := range []struct {
		name   string
		media  types.MediaType
		docker bool
		index  bool
	}{
		{name: "gzip", media: types.OCILayer},
		{name: "zstd", media: types.OCILayerZStd},
		{name: "plain", media: types.OCIUncompressedLayer},
		{name: "docker", media: types.DockerLayer, docker: true},
		{name: "index", media: types.OCILayer, index: true},
		{name: "docker-list", media: types.DockerLayer, docker: true, index: true},
	} {
		mark := new(Tree).Text("etc/format", f.name+"\n")
		img, err := b.image(recipe{layers: []*Tree{b.base, mark}, media: f.media, docker: f.docker, config: config})
		if err != nil {
			return nil, fmt.Errorf("build image of format %s: %w", f.name, err)
		}
		n := Named{Refs: []string{FormatHost + "/format:" + f.name}, Image: img}
		if f.index {
			if n.Index, err = b.index(img, f.docker); err != nil {
				return nil, err
			}
			n.Image = nil
		}
		out = append(out, n)
	}
	mixed, err := b.mixed(config)
	if err != nil {
		return nil, err
	}
	layered, err := b.image(recipe{layers: append([]*Tree{b.base}, layerTrees()...), config: config})
	if err != nil {
		return nil, fmt.Errorf("build image of layers: %w", err)
	}
	return append(out, Named{Refs: []string{FormatHost + "/format:mixed"}, Image: mixed}, Named{Refs: []string{Layers}, Image: layered}), nil
}

func (b *Builder) mixed(config v1.Config) (v1.Image, error) {
	gzip, err := b.layer(b.base, types.OCILayer)
	if err != nil {
		return nil, err
	}
	zstd, err := b.layer(new(Tree).Text("etc/format", "mixed\n"), types.OCILayerZStd)
	if err != nil {
		return nil, err
	}
	config.Env = defaultPath
	return assemble([]v1.Layer{gzip, zstd}, config, false, runtime.GOARCH)
}

// layerTrees are layers over busybox's. The second takes back parts of the first by
// whiteouts; what must be there afterwards is the script CheckLayers.
func layerTrees() []*Tree {
	first := new(Tree).Dir("t", 0o755).
		Text("t/gone", "1").Text("t/kept", "1").Text("t/replaced", "1").
		Dir("t/opaque", 0o755).Text("t/opaque/old", "1").Dir("t/dir", 0o755).Text("t/dir/old", "1").
		Text("t/original", "linked").Link("t/hard", "t/original").Symlink("t/soft", "original").
		File("t/setuid", 0o4755, []byte("x")).Dir("t/sticky", 0o1777)
	first.Entry(tar.Header{Typeflag: tar.TypeReg, Name: "t/owned", Mode: 0o640, Uid: 1234, Gid: 65534}, []byte("x"))
	first.Entry(tar.Header{Typeflag: tar.TypeFifo, Name: "t/fifo", Mode: 0o600}, nil)
	first.Entry(tar.Header{
		Typeflag: tar.TypeReg, Name: "t/" + longName(), Mode: 0o644, Format: tar.FormatPAX,
		PAXRecords: map[string]string{"SCHILY.xattr.user.berth": "attribute"},
	}, []byte("long"))
	second := new(Tree).Text("t/.wh.gone", "").Text("t/replaced", "2").
		Text("t/opaque/.wh..wh..opq", "").Text("t/opaque/new", "2").
		Text("t/.wh.dir", "").
		Text("t/deep/er/without/parents", "2")
	return []*Tree{first, second}
}

// longName needs a PAX header: it is longer than a plain tar header holds.
func longName() string { return strings.Repeat("n", 150) }

// CheckLayers is a shell script that says "layers ok" in a container of the image
// Layers, or which of its lines failed.
const CheckLayers = `
ok() { "$@" || { echo "failed: $*"; exit 1; }; }
ok test ! -e /t/gone
ok test "$(cat /t/kept)" = 1
ok test "$(cat /t/replaced)" = 2
ok test "$(ls /t/opaque)" = new
ok test ! -e /t/dir
ok test "$(cat /t/hard)" = linked
ok test "$(stat -c %i /t/hard)" = "$(stat -c %i /t/original)"
ok test "$(readlink /t/soft)" = original
ok test "$(stat -c %a /t/setuid)" = 4755
ok test "$(stat -c %a /t/sticky)" = 1777
ok test "$(stat -c %u:%g:%a /t/owned)" = 1234:65534:640
ok test "$(stat -c %Y /t/kept)" = 1767323045
ok test -p /t/fifo
ok test "$(cat /t/nnnnnnnnnn*)" = long
ok test "$(cat /t/deep/er/without/parents)" = 2
ok test ! -e /t/.wh.gone
ok test ! -e /t/opaque/.wh..wh..opq
echo layers ok
`

// Tall returns an image of busybox with that many layers more, each of one file named for its number.
func (b *Builder) Tall(layers int) (Named, error) {
	trees := []*Tree{b.base}
	for i := range layers {
		trees = append(trees, new(Tree).Text(fmt.Sprintf("layer-%d", i), fmt.Sprintln(i)))
	}
	img, err := b.image(recipe{layers: trees, config: v1.Config{Cmd: []string{"sh"}}})
	if err != nil {
		return Named{}, fmt.Errorf("build image of %d layers: %w", layers, err)
	}
	return Named{Refs: []string{fmt.Sprintf("%s/format:tall-%d", FormatHost, layers)}, Image: img}, nil
}
