package registry

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzHosts: whatever stands in a hosts.toml, it is an error, or every host that is to be asked has a name and a way to ask it.
func FuzzHosts(f *testing.F) {
	f.Add("server = \"https://example.com\"\n[host.\"http://mirror:5000/v2/path\"]\ncapabilities = [\"pull\"]\noverride_path = true\nskip_verify = true\n")
	f.Add("[host.\"https://a\"]\nca = [\"a.pem\"]\nclient = [[\"c\", \"k\"]]\n[host.\"https://a\".header]\nx = [\"y\"]\n")
	f.Add("[host]\n\"\" = 1")
	f.Fuzz(func(t *testing.T, text string) {
		dir := t.TempDir()
		at := filepath.Join(dir, "example.com")
		if err := os.Mkdir(at, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(at, "hosts.toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		hosts, err := newClient(dir).hosts(t.Context(), named(t, "example.com/app:1"), &Auth{Username: "user", Password: "hush-hush"})
		if err != nil {
			if strings.Contains(err.Error(), "hush-hush") {
				t.Errorf("a secret is in %v", err)
			}
			return
		}
		for _, h := range hosts {
			if h.client == nil || h.resolver == nil {
				t.Errorf("host %q can't be asked", h.name)
			}
		}
	})
}

func FuzzAuthFile(f *testing.F) {
	f.Add(`{"auths":{"example.com":{"auth":"dTpw"}}}`, "example.com")
	f.Add(`{"auths":{"https://index.docker.io/v1/":{"identitytoken":"t"}}}`, "docker.io")
	f.Fuzz(func(t *testing.T, text, host string) {
		if strings.Contains(text, "cred") {
			t.Skip("would run programs")
		}
		c := newClient("")
		c.AuthFile = filepath.Join(t.TempDir(), "auth.json")
		if err := os.WriteFile(c.AuthFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		user, secret, err := c.fileCredentials(t.Context(), named(t, "example.com/app:1"), host)
		if err != nil && user+secret != "" {
			t.Errorf("credentials beside %v", err)
		}
	})
}
