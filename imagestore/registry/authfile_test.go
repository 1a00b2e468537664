package registry

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func authFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "auth.json")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func basicAuth(user, password string) string {
	return fmt.Sprintf(`{"auth":%q}`, base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
}

func TestAuthFile(t *testing.T) {
	s := newServer(t)
	s.push(t, "team/app")
	s.guard = wantBasic("user", "pass")
	good, bad := basicAuth("user", "pass"), basicAuth("user", "guess")
	for test, given := range map[string]struct {
		file string
		auth *Auth
		want error
	}{
		"by host":                    {`{"auths":{"HOST":` + good + `}}`, nil, nil},
		"by address":                 {`{"auths":{"https://HOST/v1/":` + good + `}}`, nil, nil},
		"by part of the repository":  {`{"auths":{"HOST":` + bad + `,"HOST/team":` + good + `}}`, nil, nil},
		"of another repository":      {`{"auths":{"HOST/other":` + good + `}}`, nil, ErrDenied},
		"of another host":            {`{"auths":{"example.com":` + good + `}}`, nil, ErrDenied},
		"the pull's own come first":  {`{"auths":{"HOST":` + good + `}}`, &Auth{Username: "user", Password: "guess"}, ErrDenied},
		"the pull's are for another": {`{"auths":{"HOST":` + good + `}}`, &Auth{Username: "a", Password: "b", ServerAddress: "example.com"}, nil},
		"nothing in it":              {`{}`, nil, ErrDenied},
		"no JSON":                    {`{`, nil, ErrUnavailable},
		"no base64":                  {`{"auths":{"HOST":{"auth":"%%"}}}`, nil, ErrUnavailable},
		"no such helper":             {`{"credHelpers":{"HOST":"berth-test-none"}}`, nil, ErrUnavailable},
	} {
		t.Run(test, func(t *testing.T) {
			c := newClient("")
			c.AuthFile = authFile(t, strings.ReplaceAll(given.file, "HOST", s.host))
			err := get(t, c, s.host+"/team/app", given.auth)
			if !errors.Is(err, given.want) {
				t.Errorf("got %v", err)
			}
			if strings.Contains(fmt.Sprint(err), "guess") {
				t.Errorf("a secret is in %v", err)
			}
		})
	}
	c := newClient("")
	c.AuthFile = "/nonexistent/auth.json"
	if err := get(t, c, s.host+"/team/app", nil); !errors.Is(err, ErrDenied) {
		t.Errorf("without a file: %v", err)
	}
}

// TestAuthFileOfMirror: a mirror gets its own credentials, and never those of the registry.
func TestAuthFileOfMirror(t *testing.T) {
	origin, mirror := newServer(t), newServer(t)
	mirror.push(t, "app")
	mirror.guard = wantBasic("mirror", "own")
	dir := t.TempDir()
	configure(t, dir, origin.host, fmt.Sprintf("server = \"http://%s\"\n[host.\"http://%s\"]\n", origin.host, mirror.host))
	c := newClient(dir)
	c.AuthFile = authFile(t, fmt.Sprintf(`{"auths":{%q:%s,%q:%s}}`, origin.host, basicAuth("user", "pass"), mirror.host, basicAuth("mirror", "own")))
	if err := get(t, c, origin.host+"/app", &Auth{Username: "pull", Password: "secret"}); err != nil {
		t.Error(err)
	}
	for _, shown := range mirror.secrets() {
		if shown != "Basic "+base64.StdEncoding.EncodeToString([]byte("mirror:own")) {
			t.Errorf("the mirror was shown %s", shown)
		}
	}
}

// TestCredentialHelper runs a program as docker-credential-helpers are.
func TestCredentialHelper(t *testing.T) {
	s := newServer(t)
	s.push(t, "app")
	s.guard = wantBasic("user", "pass")
	bin := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\nread host\n[ \"$1 $host\" = 'get %s' ] && echo '{\"ServerURL\":\"x\",\"Username\":\"user\",\"Secret\":\"pass\"}'\n", s.host)
	if err := os.WriteFile(filepath.Join(bin, "docker-credential-test"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	for _, file := range []string{`{"credHelpers":{"HOST":"test"}}`, `{"credsStore":"test"}`} {
		c := newClient("")
		c.AuthFile = authFile(t, strings.ReplaceAll(file, "HOST", s.host))
		if err := get(t, c, s.host+"/app", nil); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestAuthKeysOfDockerHub(t *testing.T) {
	keys := authKeys(named(t, "busybox"), "registry-1.docker.io")
	for _, want := range []string{"docker.io/library/busybox", "docker.io/library", "docker.io", "https://index.docker.io/v1/"} {
		found := false
		for _, key := range keys {
			found = found || key == want
		}
		if !found {
			t.Errorf("%s isn't in %v", want, keys)
		}
	}
}
