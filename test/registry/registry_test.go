package registry

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/test/images"
)

func start(t *testing.T) *Server {
	t.Helper()
	s, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func get(t *testing.T, s *Server, path, host string) (int, string) {
	t.Helper()
	r, err := http.Get("http://" + s.Addr() + "/v2/" + path + "?ns=" + host)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

func TestServesEveryImageUnderItsNames(t *testing.T) {
	b, err := images.New()
	if err != nil {
		t.Fatal(err)
	}
	s := start(t)
	for _, build := range []func() ([]images.Named, error){b.Catalog, b.Formats} {
		list, err := build()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Push(list...); err != nil {
			t.Fatal(err)
		}
		for _, n := range list {
			for _, ref := range n.Refs {
				host, rest, _ := strings.Cut(ref, "/")
				name, tag, _ := strings.Cut(rest, ":")
				if code, body := get(t, s, name+"/manifests/"+tag, host); code != http.StatusOK {
					t.Errorf("%s: %d %s", ref, code, body)
				}
			}
		}
	}
	if code, _ := get(t, s, "pause/manifests/3.9", "docker.io"); code != http.StatusNotFound {
		t.Errorf("another host serves it too: %d", code)
	}
	certs := t.TempDir()
	if err := s.WriteCerts(certs, "absent.example"); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"registry.k8s.io", "k8s.gcr.io", "gcr.io", "public.ecr.aws", "docker.io", images.FormatHost, "absent.example"} {
		text, err := os.ReadFile(filepath.Join(certs, host, "hosts.toml"))
		if err != nil || !strings.Contains(string(text), s.Addr()) {
			t.Errorf("%s: %q, %v", host, text, err)
		}
	}
}

func TestLiesAndLogin(t *testing.T) {
	b, err := images.New()
	if err != nil {
		t.Fatal(err)
	}
	attacks, err := b.Hostile()
	if err != nil {
		t.Fatal(err)
	}
	s := start(t)
	for _, a := range attacks {
		if err := s.Attack(a); err != nil {
			t.Fatal(err)
		}
		for digest, lie := range a.Serve {
			kind := "blobs"
			if a.Digest != "" {
				kind = "manifests"
			}
			if _, body := get(t, s, "hostile/"+kind+"/"+digest, images.FormatHost); body != string(lie) {
				t.Errorf("%s: the truth was told", a.Name)
			}
		}
	}
	s.RequireLogin(images.FormatHost, "someone", "secret")
	if code, _ := get(t, s, "hostile/manifests/climb", images.FormatHost); code != http.StatusUnauthorized {
		t.Errorf("without a login: %d", code)
	}
}
