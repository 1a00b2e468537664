package imagestore

import (
	"errors"
	"testing"
)

// FuzzReference: a name that can be read is read the same again, and finds an image by no other's name.
func FuzzReference(f *testing.F) {
	for _, s := range []string{"busybox", "docker.io/library/busybox:1.36", "host:5000/a/b@sha256:0123456789012345678901234567890123456789012345678901234567890123",
		"a:b@c", "UPPER/case", "localhost/x:y", "sha256:0123", "[::1]:5000/a", "a//b", ""} {
		f.Add(s)
	}
	v := newView(map[string]*Image{"sha256:0123": {ID: "sha256:0123", Tags: []string{"docker.io/library/busybox:1.36"}}})
	f.Fuzz(func(t *testing.T, s string) {
		named, err := parseReference(s)
		if err == nil {
			again, err := parseReference(named.String())
			if err != nil || again.String() != named.String() {
				t.Errorf("%q is %q, and that %v, %v", s, named, again, err)
			}
		} else if !errors.Is(err, ErrInvalidReference) {
			t.Errorf("%q: %v", s, err)
		}
		img, err := v.find(s)
		if (img == nil) == (err == nil) {
			t.Errorf("%q: %v, %v", s, img, err)
		}
		if err != nil && !errors.Is(err, ErrInvalidReference) && !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v", s, err)
		}
	})
}
