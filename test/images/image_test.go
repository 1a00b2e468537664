package images

import (
	"runtime"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func TestBuildsAreReproducible(t *testing.T) {
	digests := func() map[string]v1.Hash {
		b, err := New()
		if err != nil {
			t.Fatal(err)
		}
		list, err := b.Catalog()
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]v1.Hash{}
		for _, n := range list {
			for _, ref := range n.Refs {
				if out[ref], err = n.Index.Digest(); err != nil {
					t.Fatal(err)
				}
			}
		}
		return out
	}
	first, second := digests(), digests()
	for ref, d := range first {
		if second[ref] != d {
			t.Errorf("%s: %v, then %v", ref, d, second[ref])
		}
	}
	same := func(a, b string) bool { return first[a] == first[b] }
	if !same("registry.k8s.io/pause:3.9", "k8s.gcr.io/pause:3.9") || same("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.10") {
		t.Error("pause:3.9 must be one image under two hosts, and 3.10 another")
	}
	if !same(staging+"test-image-tags:1", staging+"test-image-tags:3") || same(staging+"test-image-1:latest", staging+"test-image-2:latest") {
		t.Error("three tags must name one image, and three images be different")
	}
}

func TestIndexHasTheWrongPlatformFirst(t *testing.T) {
	b, err := New()
	if err != nil {
		t.Fatal(err)
	}
	list, err := b.Catalog()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range list {
		m, err := n.Index.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Manifests) != 2 || m.Manifests[0].Platform.Architecture == runtime.GOARCH || m.Manifests[1].Platform.Architecture != runtime.GOARCH {
			t.Errorf("%s: %+v", n.Refs[0], m.Manifests)
		}
	}
}
