package registry

import (
	"net/http"
	"path"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/berth-runtime/berth/test/images"
)

// ServeFiles answers for a host with the one image of a directory that images.Large made, under each name there. The kernel sends the blobs
// from their files (sendfile(2)), so that little of what a pull takes is the server's.
func (s *Server) ServeFiles(host, dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hosts[host] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			_, hex, _ := strings.Cut(path.Base(r.URL.Path), ":")
			http.ServeFile(w, r, filepath.Join(dir, filepath.Base(hex)))
			return
		}
		w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
		if digest, err := manifestDigest(dir); err == nil {
			w.Header().Set("Docker-Content-Digest", digest)
		}
		http.ServeFile(w, r, filepath.Join(dir, images.LargeManifest))
	})
}

func manifestDigest(dir string) (string, error) {
	file, err := http.Dir(dir).Open(images.LargeManifest)
	if err != nil {
		return "", err
	}
	defer file.Close()
	digest, _, err := v1.SHA256(file)
	return digest.String(), err
}
