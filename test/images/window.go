package images

import (
	"archive/tar"
	"bytes"
	"fmt"
	"math/rand/v2"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// WriteWindows writes an image like Large's into a directory: a layer for each zstd window, of one file of noise that fills the window and more, and of so many
// empty files.
func WriteWindows(dir string, files int, windows ...int) error {
	return writeImage(dir, types.OCILayerZStd, len(windows), func(i int) (plain, blob []byte, err error) {
		noise := make([]byte, windows[i]+windows[i]/8)
		rand.NewChaCha8([32]byte{byte(i)}).Read(noise)
		var buf, out bytes.Buffer
		w := tar.NewWriter(&buf) // into memory: it has no error
		w.WriteHeader(&tar.Header{Name: fmt.Sprintf("f%d", i), Mode: 0o644, Size: int64(len(noise))})
		w.Write(noise)
		for j := range files {
			w.WriteHeader(&tar.Header{Name: fmt.Sprintf("usr/lib/node_modules/package-%d-%04d/file-%05d.js", i, j/9, j), Mode: 0o644})
		}
		w.Close()
		z, err := zstd.NewWriter(&out, zstd.WithWindowSize(windows[i]), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
		if err != nil {
			return nil, nil, err
		}
		_, err = bytes.NewReader(buf.Bytes()).WriteTo(z) // not told the size: the frame names the window
		if err == nil {
			err = z.Close()
		}
		return buf.Bytes(), out.Bytes(), err
	})
}
