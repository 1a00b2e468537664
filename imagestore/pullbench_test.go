package imagestore

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// largeLayer is 106 MB in 2,860 files, three words of four of a dictionary, so that gzip makes a good third of it, as of programs and libraries.
func largeLayer(seed uint64) []byte {
	r := mathrand.New(mathrand.NewPCG(seed, 7))
	dictionary := make([][]byte, 2048)
	for i := range dictionary {
		dictionary[i] = make([]byte, 4+r.IntN(20))
		rand.Read(dictionary[i])
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for i := range 2860 {
		size := int(math.Exp(r.NormFloat64()*1.8+9) * 0.87)
		content := make([]byte, 0, size+20)
		for len(content) < size {
			if r.IntN(15) > 0 {
				content = append(content, dictionary[r.IntN(1+r.IntN(len(dictionary)))]...)
			} else {
				content = append(content, byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256)))
			}
		}
		w.WriteHeader(&tar.Header{Name: fmt.Sprintf("usr/l%d/d%d/e%d/f%d", seed, i%41, i%7, i), Mode: 0o644, Size: int64(len(content)), ModTime: time.Unix(1e9, 0)})
		w.Write(content)
	}
	w.Close()
	return buf.Bytes()
}

// largeImage makes an image's blobs in dir, once; it is 270 MB in gzip.
func largeImage(b testing.TB, dir, format string) (manifest ocispec.Descriptor) {
	b.Helper()
	at := filepath.Join(dir, format)
	if raw, err := os.ReadFile(filepath.Join(at, "manifest")); err == nil {
		return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	}
	if err := os.MkdirAll(at, 0o755); err != nil {
		b.Fatal(err)
	}
	put := func(mediaType string, blob []byte) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(blob), Size: int64(len(blob))}
		if err := os.WriteFile(filepath.Join(at, d.Digest.Encoded()), blob, 0o644); err != nil {
			b.Fatal(err)
		}
		return d
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}, RootFS: ocispec.RootFS{Type: "layers"}}
	for seed := range uint64(7) {
		raw := largeLayer(seed)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(raw))
		var buf bytes.Buffer
		if format == "zstd" {
			w, _ := zstd.NewWriter(&buf)
			w.Write(raw)
			w.Close()
			m.Layers = append(m.Layers, put(ocispec.MediaTypeImageLayerZstd, buf.Bytes()))
		} else {
			w := gzip.NewWriter(&buf)
			w.Write(raw)
			w.Close()
			m.Layers = append(m.Layers, put(ocispec.MediaTypeImageLayerGzip, buf.Bytes()))
		}
	}
	raw, _ := json.Marshal(config)
	m.Config = put(ocispec.MediaTypeImageConfig, raw)
	raw, _ = json.Marshal(m)
	d := put(m.MediaType, raw)
	if err := os.WriteFile(filepath.Join(at, "manifest"), raw, 0o644); err != nil {
		b.Fatal(err)
	}
	return d
}

// serveBlobs is a registry of one image, whose blobs are files.
func serveBlobs(dir, format string, manifest ocispec.Descriptor) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("Content-Type", manifest.MediaType)
			w.Header().Set("Docker-Content-Digest", manifest.Digest.String())
			http.ServeFile(w, r, filepath.Join(dir, format, manifest.Digest.Encoded()))
			return
		}
		_, hex, _ := strings.Cut(filepath.Base(r.URL.Path), ":")
		http.ServeFile(w, r, filepath.Join(dir, format, hex))
	})
}

func cpuTime(who int) time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(who, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRootPullLarge pulls 270 MB in seven layers, 740 MB in 20,000 files. The server is in this process: it sends files, by sendfile(2),
// and costs little.
func BenchmarkRootPullLarge(b *testing.B) {
	needRoot(b)
	dir := os.Getenv("BERTH_BENCH_IMAGE")
	if dir == "" {
		b.Skip("needs BERTH_BENCH_IMAGE, a directory for the image's blobs")
	}
	for _, format := range []string{"gzip", "zstd"} {
		b.Run(format, func(b *testing.B) {
			manifest := largeImage(b, dir, format)
			server := httptest.NewServer(serveBlobs(dir, format, manifest))
			defer server.Close()
			host := strings.TrimPrefix(server.URL, "http://")
			runtime.GC()
			for b.Loop() {
				b.StopTimer()
				s := newTestStore(b)
				b.StartTimer()
				before := cpuTime(syscall.RUSAGE_SELF)
				mustPull(b, s, ref(host, "large:1"))
				b.ReportMetric(float64((cpuTime(syscall.RUSAGE_SELF) - before).Milliseconds()), "cpu-ms")
			}
			status, _ := os.ReadFile("/proc/self/status")
			for line := range strings.Lines(string(status)) {
				if strings.HasPrefix(line, "VmHWM") {
					b.Log(strings.TrimSpace(line))
				}
			}
		})
	}
}
