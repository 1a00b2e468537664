package images

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Attack is an image that a runtime must refuse, or must keep within its bounds.
type Attack struct {
	Name     string
	Ref      string
	Image    v1.Image          // what is pushed
	Manifest []byte            // when set: what Ref's tag names instead of Image's own manifest
	Serve    map[string][]byte // digest → what the registry answers instead of the truth
	Digest   string            // when set: it is pulled by this digest
	Harmless bool              // it may be accepted, if nothing outside of the image is touched
}

// Canary is what an attack that climbs out tries to make on the host.
const Canary = "/tmp/berth-test-canary"

const climb = "../../../../../../../../../../../../../../../.."

// Hostile returns the attacks.
func (b *Builder) Hostile() ([]Attack, error) {
	out, err := b.hostileTars()
	if err != nil {
		return nil, err
	}
	for _, f := range []func() (Attack, error){
		b.wrongLayer, b.shortLayer, b.longLayer, b.wrongConfig, b.wrongManifest, b.wrongDiffID, b.missingDiffID, b.smallSize, b.largeSize, b.notGzip, b.tornTar,
	} {
		a, err := f()
		if err != nil {
			return nil, err
		}
		a.Ref = FormatHost + "/hostile:" + a.Name
		out = append(out, a)
	}
	return out, nil
}

// hostileTars are honest about everything but where their entries lead.
func (b *Builder) hostileTars() ([]Attack, error) {
	text := []byte("escaped\n")
	var out []Attack
	for _, c := range []struct {
		name     string
		harmless bool
		tree     *Tree
	}{
		{"climb", false, new(Tree).File(climb+Canary, 0o644, text)},
		{"climb-inside", false, new(Tree).Dir("a", 0o755).File("a/"+climb+Canary, 0o644, text)},
		{"absolute", true, new(Tree).File(Canary, 0o644, text)},
		{"symlink-absolute", true, new(Tree).Symlink("out", "/tmp").File("out/"+strings.TrimPrefix(Canary, "/tmp/"), 0o644, text)},
		{"symlink-up", true, new(Tree).Symlink("out", climb).File("out"+Canary, 0o644, text)},
		{"symlink-chain", true, new(Tree).Symlink("a", climb).Symlink("b", "a/tmp").File("b/"+strings.TrimPrefix(Canary, "/tmp/"), 0o644, text)},
		{"symlink-replaced", true, new(Tree).Symlink("canary", Canary).File("canary", 0o644, text)},
		{"hardlink-out", false, new(Tree).Link("passwd", climb+"/etc/passwd")},
		{"hardlink-through-symlink", false, new(Tree).Symlink("out", climb).Link("shadow", "out/etc/machine-id-of-the-host")},
		{"whiteout-dots", true, new(Tree).Dir("a", 0o755).Text("a/.wh...", "").Text("a/.wh..", "")},
		{"whiteout-climb", true, new(Tree).Text(climb+"/tmp/.wh.berth-test-victim", "")},
		{"device-number", true, new(Tree).Entry(tar.Header{Typeflag: tar.TypeChar, Name: "memory", Mode: 0o666, Devmajor: 1, Devminor: 1}, nil)},
	} {
		img, err := b.image(recipe{layers: []*Tree{b.base, c.tree}, config: v1.Config{Cmd: []string{"sh"}}})
		if err != nil {
			return nil, fmt.Errorf("build attack %s: %w", c.name, err)
		}
		out = append(out, Attack{Name: c.name, Ref: FormatHost + "/hostile:" + c.name, Image: img, Harmless: c.harmless})
	}
	return out, nil
}

// victim is an honest image of its own: name is in its layer.
func (b *Builder) victim(name string) (v1.Image, v1.Layer, error) {
	tree := new(Tree).Text("etc/victim", name+"\n")
	img, err := b.image(recipe{layers: []*Tree{b.base, tree}, config: v1.Config{Cmd: []string{"sh"}}})
	if err != nil {
		return nil, nil, fmt.Errorf("build attack %s: %w", name, err)
	}
	l, err := b.layer(tree, types.OCILayer)
	return img, l, err
}

// served is an honest image of whose last layer the registry answers other bytes.
func (b *Builder) served(name string, change func([]byte) []byte) (Attack, error) {
	img, l, err := b.victim(name)
	if err != nil {
		return Attack{}, err
	}
	digest, err := l.Digest()
	if err != nil {
		return Attack{}, fmt.Errorf("hash layer: %w", err)
	}
	archive, err := new(Tree).Text("etc/victim", name+"\n").Tar()
	if err != nil {
		return Attack{}, err
	}
	blob, err := compress(archive, types.OCILayer)
	if err != nil {
		return Attack{}, err
	}
	return Attack{Name: name, Image: img, Serve: map[string][]byte{digest.String(): change(blob)}}, nil
}

// wrongLayer has a valid layer of other content.
func (b *Builder) wrongLayer() (Attack, error) {
	archive, err := new(Tree).Text("etc/victim", "something else\n").Tar()
	if err != nil {
		return Attack{}, err
	}
	other, err := compress(archive, types.OCILayer)
	if err != nil {
		return Attack{}, err
	}
	return b.served("wrong-layer", func([]byte) []byte { return other })
}

func (b *Builder) shortLayer() (Attack, error) {
	return b.served("short-layer", func(blob []byte) []byte { return blob[:len(blob)-9] })
}

func (b *Builder) longLayer() (Attack, error) {
	return b.served("long-layer", func(blob []byte) []byte { return append(bytes.Clone(blob), make([]byte, 4096)...) })
}

func (b *Builder) wrongConfig() (Attack, error) {
	img, _, err := b.victim("wrong-config")
	if err != nil {
		return Attack{}, err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return Attack{}, fmt.Errorf("read configuration: %w", err)
	}
	digest, err := img.ConfigName()
	if err != nil {
		return Attack{}, fmt.Errorf("hash configuration: %w", err)
	}
	changed := bytes.Replace(config, []byte(`"sh"`), []byte(`"ls"`), 1)
	return Attack{Name: "wrong-config", Image: img, Serve: map[string][]byte{digest.String(): changed}}, nil
}

// wrongManifest is asked for by digest and answered with another manifest.
func (b *Builder) wrongManifest() (Attack, error) {
	img, _, err := b.victim("wrong-manifest")
	if err != nil {
		return Attack{}, err
	}
	other, _, err := b.victim("wrong-manifest-other")
	if err != nil {
		return Attack{}, err
	}
	digest, err := img.Digest()
	if err != nil {
		return Attack{}, fmt.Errorf("hash manifest: %w", err)
	}
	manifest, err := other.RawManifest()
	if err != nil {
		return Attack{}, fmt.Errorf("read manifest: %w", err)
	}
	return Attack{Name: "wrong-manifest", Image: img, Digest: digest.String(), Serve: map[string][]byte{digest.String(): manifest}}, nil
}

// reconfigured is an image whose configuration was changed after its layers were
// entered there.
func (b *Builder) reconfigured(name string, change func(*v1.ConfigFile)) (Attack, error) {
	img, _, err := b.victim(name)
	if err != nil {
		return Attack{}, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return Attack{}, fmt.Errorf("read configuration: %w", err)
	}
	config = config.DeepCopy()
	change(config)
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		return Attack{}, fmt.Errorf("change configuration: %w", err)
	}
	return Attack{Name: name, Image: img}, nil
}

func (b *Builder) wrongDiffID() (Attack, error) {
	return b.reconfigured("wrong-diff-id", func(c *v1.ConfigFile) {
		c.RootFS.DiffIDs[1].Hex = strings.Repeat("0", 64)
	})
}

func (b *Builder) missingDiffID() (Attack, error) {
	return b.reconfigured("missing-diff-id", func(c *v1.ConfigFile) { c.RootFS.DiffIDs = c.RootFS.DiffIDs[:1] })
}

// resized is an image whose manifest gives its last layer another size.
func (b *Builder) resized(name string, change func(int64) int64) (Attack, error) {
	img, _, err := b.victim(name)
	if err != nil {
		return Attack{}, err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return Attack{}, fmt.Errorf("read manifest: %w", err)
	}
	manifest = manifest.DeepCopy()
	last := &manifest.Layers[len(manifest.Layers)-1]
	last.Size = change(last.Size)
	raw, err := json.Marshal(manifest)
	if err != nil {
		return Attack{}, fmt.Errorf("encode manifest: %w", err)
	}
	return Attack{Name: name, Image: img, Manifest: raw}, nil
}

func (b *Builder) smallSize() (Attack, error) {
	return b.resized("small-size", func(size int64) int64 { return size - 1 })
}

func (b *Builder) largeSize() (Attack, error) {
	return b.resized("large-size", func(size int64) int64 { return size + 1000 })
}

// encoded is an image of one layer that is blob, whatever that is.
func (b *Builder) encoded(name string, blob []byte) (Attack, error) {
	diffID, _, err := v1.SHA256(bytes.NewReader(blob))
	if err != nil {
		return Attack{}, fmt.Errorf("hash layer: %w", err)
	}
	l := rawLayer(blob, types.OCILayer, diffID)
	img, err := assemble([]v1.Layer{l}, v1.Config{Cmd: []string{"sh"}}, false, runtime.GOARCH)
	return Attack{Name: name, Image: img}, err
}

func (b *Builder) notGzip() (Attack, error) {
	return b.encoded("not-gzip", []byte(strings.Repeat("this is no gzip stream. ", 100)))
}

// tornTar is a good gzip stream of an archive that ends amid a file.
func (b *Builder) tornTar() (Attack, error) {
	archive, err := new(Tree).Text("etc/torn", strings.Repeat("x", 2000)).Tar()
	if err != nil {
		return Attack{}, err
	}
	l, err := newLayer(archive[:1000], types.OCILayer)
	if err != nil {
		return Attack{}, err
	}
	img, err := assemble([]v1.Layer{l}, v1.Config{Cmd: []string{"sh"}}, false, runtime.GOARCH)
	return Attack{Name: "torn-tar", Image: img}, err
}
