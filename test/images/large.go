package images

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// LargeManifest is the file of Large's directory that is the image's manifest.
const LargeManifest = "manifest"

// Large is an image that takes a while to pull, made once into the cache: seven layers with 20,000 files of 740 MB, which gzip
// makes 270 MB of. It returns the directory of its blobs, each of which has its digest's hex as its name. media is the layers' media type.
func Large(media types.MediaType) (dir string, err error) {
	name := "large-image-gzip"
	if media == types.OCILayerZStd {
		name = "large-image-zstd"
	}
	return Cached(name, func(path string) error {
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
		return writeLarge(path, media)
	})
}

func writeLarge(dir string, media types.MediaType) error {
	return writeImage(dir, media, 7, func(i int) (plain, blob []byte, err error) {
		plain = largeLayer(uint64(i))
		blob, err = compress(plain, media)
		return plain, blob, err
	})
}

// writeImage writes the blobs of an image with so many layers one by one: they are too many to be held in memory.
func writeImage(dir string, media types.MediaType, layers int, layer func(i int) (plain, blob []byte, err error)) error {
	put := func(media types.MediaType, blob []byte) (v1.Descriptor, error) {
		digest, size, err := v1.SHA256(bytes.NewReader(blob))
		if err != nil {
			return v1.Descriptor{}, err
		}
		return v1.Descriptor{MediaType: media, Digest: digest, Size: size}, os.WriteFile(filepath.Join(dir, digest.Hex), blob, 0o644)
	}
	config := v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH, RootFS: v1.RootFS{Type: "layers"}}
	manifest := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1}
	for i := range layers {
		plain, blob, err := layer(i)
		if err != nil {
			return err
		}
		id, _, err := v1.SHA256(bytes.NewReader(plain))
		if err != nil {
			return err
		}
		described, err := put(media, blob)
		if err != nil {
			return err
		}
		config.RootFS.DiffIDs, manifest.Layers = append(config.RootFS.DiffIDs, id), append(manifest.Layers, described)
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return err
	}
	if manifest.Config, err = put(types.OCIConfigJSON, raw); err != nil {
		return err
	}
	if raw, err = json.Marshal(manifest); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, LargeManifest), raw, 0o644)
}

// largeLayer is 106 MB in 2,860 files of sizes as programs and libraries have them, and of content that gzip makes a good third of: words of
// a dictionary, most of them of its beginning, and noise between them. Directories stand before what is in them, as in every image's tar.
func largeLayer(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 7))
	noise := rand.NewChaCha8([32]byte{byte(seed)})
	dictionary := make([][]byte, 2048)
	for i := range dictionary {
		dictionary[i] = make([]byte, 4+r.IntN(20))
		noise.Read(dictionary[i])
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add := func(kind byte, name string, mode int64, content []byte) {
		w.WriteHeader(&tar.Header{Typeflag: kind, Name: name, Mode: mode, Size: int64(len(content)), ModTime: time.Unix(1e9, 0)})
		w.Write(content)
	}
	add(tar.TypeDir, "usr/", 0o755, nil)
	for i := range 2860 {
		dir := fmt.Sprintf("usr/l%d-%d/", seed, i/70)
		if i%70 == 0 {
			add(tar.TypeDir, dir, 0o755, nil)
		}
		if i%10 == 0 {
			add(tar.TypeDir, fmt.Sprintf("%se%d/", dir, i%70/10), 0o755, nil)
		}
		size := int(math.Exp(r.NormFloat64()*1.8+9) * 0.87)
		content := make([]byte, 0, size+20)
		for len(content) < size {
			if r.IntN(15) > 0 {
				content = append(content, dictionary[r.IntN(1+r.IntN(len(dictionary)))]...)
			} else {
				content = append(content, byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256)))
			}
		}
		add(tar.TypeReg, fmt.Sprintf("%se%d/f%d", dir, i%70/10, i), 0o644, content)
	}
	w.Close() // into memory: it has no error
	return buf.Bytes()
}
