package registry

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/berth-runtime/berth/test/images"
)

// Push makes images available under each of their references.
func (s *Server) Push(list ...images.Named) error {
	for _, n := range list {
		for _, ref := range n.Refs {
			r, err := s.repository(ref)
			if err != nil {
				return err
			}
			if n.Index != nil {
				err = r.index(n.Index)
			} else {
				err = r.image(n.Image, r.tag)
			}
			if err != nil {
				return fmt.Errorf("push %s: %w", ref, err)
			}
		}
	}
	return nil
}

// Attack makes an attack available.
func (s *Server) Attack(a images.Attack) error {
	r, err := s.repository(a.Ref)
	if err != nil {
		return err
	}
	if err := r.image(a.Image, r.tag); err != nil {
		return fmt.Errorf("push %s: %w", a.Ref, err)
	}
	if a.Manifest != nil {
		if err := r.manifest(a.Manifest, types.OCIManifestSchema1, r.tag); err != nil {
			return fmt.Errorf("push %s: %w", a.Ref, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for digest, body := range a.Serve {
		s.lies[digest] = body
	}
	return nil
}

// repository is one of a host, and a tag in it. It is written without a connection.
type repository struct {
	handler   http.Handler
	name, tag string
}

func (s *Server) repository(ref string) (repository, error) {
	host, rest, _ := strings.Cut(ref, "/")
	i := strings.LastIndexByte(rest, ':')
	if i < 0 {
		return repository{}, fmt.Errorf("parse reference %s: no tag in it", ref)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hosts[host] == nil {
		s.hosts[host] = registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	}
	return repository{s.hosts[host], rest[:i], rest[i+1:]}, nil
}

func (r repository) index(idx v1.ImageIndex) error {
	manifest, err := idx.IndexManifest()
	if err != nil {
		return fmt.Errorf("read index: %w", err)
	}
	for _, m := range manifest.Manifests {
		img, err := idx.Image(m.Digest)
		if err != nil {
			return fmt.Errorf("read image %s: %w", m.Digest, err)
		}
		if err := r.image(img, m.Digest.String()); err != nil {
			return err
		}
	}
	raw, err := idx.RawManifest()
	if err != nil {
		return fmt.Errorf("read index: %w", err)
	}
	return r.manifest(raw, manifest.MediaType, r.tag)
}

func (r repository) image(img v1.Image, tag string) error {
	layers, err := img.Layers()
	if err != nil {
		return fmt.Errorf("read layers: %w", err)
	}
	for _, l := range layers {
		if err := r.layer(l); err != nil {
			return err
		}
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	digest, err := img.ConfigName()
	if err != nil {
		return fmt.Errorf("hash configuration: %w", err)
	}
	if err := r.blob(config, digest); err != nil {
		return err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return fmt.Errorf("read manifest: %w", err)
	}
	raw, err := img.RawManifest()
	if err != nil {
		return fmt.Errorf("read manifest: %w", err)
	}
	return r.manifest(raw, manifest.MediaType, tag)
}

func (r repository) layer(l v1.Layer) error {
	content, err := l.Compressed()
	if err != nil {
		return fmt.Errorf("open layer: %w", err)
	}
	defer content.Close()
	blob, err := io.ReadAll(content)
	if err != nil {
		return fmt.Errorf("read layer: %w", err)
	}
	digest, err := l.Digest()
	if err != nil {
		return fmt.Errorf("hash layer: %w", err)
	}
	return r.blob(blob, digest)
}

func (r repository) blob(content []byte, digest v1.Hash) error {
	return r.send(http.MethodPost, "blobs/uploads/?digest="+digest.String(), "", content)
}

func (r repository) manifest(content []byte, media types.MediaType, tag string) error {
	return r.send(http.MethodPut, "manifests/"+tag, string(media), content)
}

func (r repository) send(method, path, media string, content []byte) error {
	request := httptest.NewRequest(method, "http://registry/v2/"+r.name+"/"+path, bytes.NewReader(content))
	request.Header.Set("Content-Type", media)
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, request)
	if w.Code >= 300 {
		return fmt.Errorf("%s %s: status %d: %s", method, path, w.Code, strings.TrimSpace(w.Body.String()))
	}
	return nil
}
