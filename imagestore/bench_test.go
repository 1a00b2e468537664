package imagestore

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	fastgzip "github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// benchTar is a layer of about size bytes in files as images have them: most small, some large, half of it random enough that gzip makes a
// third of it.
func benchTar(seed uint64, size int) []byte {
	r := mathrand.New(mathrand.NewPCG(seed, 1))
	words := make([]string, 4096)
	for i := range words {
		raw := make([]byte, 3+r.IntN(12))
		rand.Read(raw)
		words[i] = base64.StdEncoding.EncodeToString(raw)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for i := 0; buf.Len() < size; i++ {
		n := 1 << (8 + r.IntN(10))
		if i%50 == 0 {
			n = 4 << 20
		}
		var content strings.Builder
		for content.Len() < n {
			content.WriteString(words[r.IntN(len(words))])
		}
		w.WriteHeader(&tar.Header{Name: fmt.Sprintf("l%d/d%d/f%d", seed, i%97, i), Mode: 0o644, Size: int64(content.Len())})
		io.WriteString(w, content.String())
	}
	w.Close()
	return buf.Bytes()
}

func gzipLayer(b *testing.B, raw []byte) (v1.Layer, []byte) {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	w.Write(raw)
	w.Close()
	return layerFrom(b, buf.Bytes(), types.OCILayer), buf.Bytes()
}

func zstdLayer(b *testing.B, raw []byte) (v1.Layer, []byte) {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		b.Fatal(err)
	}
	blob := w.EncodeAll(raw, nil)
	return layerFrom(b, blob, types.OCILayerZStd), blob
}

func layerFrom(b *testing.B, blob []byte, mediaType types.MediaType) v1.Layer {
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(blob)), nil },
		tarball.WithMediaType(mediaType))
	if err != nil {
		b.Fatal(err)
	}
	return l
}

// BenchmarkRootPull pulls an image of seven layers from loopback; BenchmarkInflate is the floor under it.
func BenchmarkRootPull(b *testing.B) {
	needRoot(b)
	for name, make := range map[string]func(*testing.B, []byte) (v1.Layer, []byte){"gzip": gzipLayer, "zstd": zstdLayer} {
		b.Run(name, func(b *testing.B) {
			host := serve(b, nil)
			var layers []v1.Layer
			var raw, compressed int
			for i := range 7 {
				content := benchTar(uint64(i), 30<<20)
				l, blob := make(b, content)
				layers, raw, compressed = append(layers, l), raw+len(content), compressed+len(blob)
			}
			push(b, ref(host, "bench:1"), imageOf(b, layers...))
			b.SetBytes(int64(raw))
			runtime.GC()
			for b.Loop() {
				b.StopTimer()
				// A new store each time, and none deleted meanwhile: ext4 is slow to make files where it has just deleted some.
				s := newTestStore(b)
				b.StartTimer()
				mustPull(b, s, ref(host, "bench:1"))
			}
			b.ReportMetric(float64(compressed)/1e6, "MB-compressed")
		})
	}
}

// BenchmarkInflate is what decompressing the same data takes on one processor, without a network, digests and files.
func BenchmarkInflate(b *testing.B) {
	raw := benchTar(1, 30<<20)
	_, gz := gzipLayer(b, raw)
	b.Run("gzip", func(b *testing.B) {
		b.SetBytes(int64(len(raw)))
		for b.Loop() {
			z, err := fastgzip.NewReader(bytes.NewReader(gz))
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, z); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkRootSnapshot is what the store adds to the start of a container.
func BenchmarkRootSnapshot(b *testing.B) {
	var layers []v1.Layer
	for i := range 8 {
		layers = append(layers, layerOf(b, f(fmt.Sprintf("d%d/f", i), "x")))
	}
	s, img := pulled(b, layers...)
	var prepare, mount, remove time.Duration
	n := 0
	for b.Loop() {
		started := time.Now()
		if err := s.PrepareSnapshot(b.Context(), "c", img.ID); err != nil {
			b.Fatal(err)
		}
		prepared := time.Now()
		file, err := s.MountSnapshot("c", "")
		if err != nil {
			b.Fatal(err)
		}
		mounted := time.Now()
		file.Close()
		closed := time.Now()
		if err := s.RemoveSnapshot("c"); err != nil {
			b.Fatal(err)
		}
		prepare, mount, remove, n = prepare+prepared.Sub(started), mount+mounted.Sub(prepared), remove+time.Since(closed), n+1
	}
	b.ReportMetric(float64(prepare.Microseconds())/float64(n), "µs/prepare")
	b.ReportMetric(float64(mount.Microseconds())/float64(n), "µs/mount")
	b.ReportMetric(float64(remove.Microseconds())/float64(n), "µs/remove")
}
