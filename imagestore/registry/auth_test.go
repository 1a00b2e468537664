package registry

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

func TestBind(t *testing.T) {
	encode := base64.StdEncoding.EncodeToString
	for name, test := range map[string]struct {
		auth         *Auth
		user, secret string
		bearer       string
		fails        bool
	}{
		"none":             {auth: nil},
		"empty":            {auth: &Auth{}},
		"password":         {auth: &Auth{Username: "u", Password: "p"}, user: "u", secret: "p"},
		"auth":             {auth: &Auth{Auth: encode([]byte("u:p:q"))}, user: "u", secret: "p:q"},
		"auth, padded":     {auth: &Auth{Auth: encode([]byte("u:p\x00\x00"))}, user: "u", secret: "p"},
		"identity token":   {auth: &Auth{IdentityToken: "id"}, secret: "id"},
		"of a user":        {auth: &Auth{Username: "u", IdentityToken: "id"}, secret: "id"},
		"registry token":   {auth: &Auth{RegistryToken: "reg"}, bearer: "reg"},
		"password first":   {auth: &Auth{Username: "u", Password: "p", IdentityToken: "id", RegistryToken: "reg"}, user: "u", secret: "p"},
		"auth, not base64": {auth: &Auth{Auth: "secret!"}, fails: true},
		"auth, no colon":   {auth: &Auth{Auth: encode([]byte("secret"))}, fails: true},
		"bad address":      {auth: &Auth{Username: "u", ServerAddress: "http://[::secret"}, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := test.auth.bind("example.com")
			if test.fails {
				if !errors.Is(err, ErrDenied) || strings.Contains(err.Error(), "secret") {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || c.user != test.user || c.secret != test.secret || c.bearer != test.bearer {
				t.Errorf("got %+v, %v", c, err)
			}
		})
	}
}

func TestAllows(t *testing.T) {
	for _, test := range []struct {
		domain, server, host string
		want                 bool
	}{
		{"example.com", "", "example.com", true},
		{"example.com", "", "EXAMPLE.com", true},
		{"example.com", "", "mirror.example.com", false},
		{"example.com:5000", "", "example.com", false},
		{"example.com", "", "example.com:443", true},
		{"docker.io", "", "registry-1.docker.io", true},
		{"docker.io", "https://index.docker.io/v1/", "registry-1.docker.io", true},
		{"example.com", "other.com", "example.com", false},
		{"example.com", "mirror.com:5000/v1", "mirror.com:5000", true},
		{"example.com", "http://mirror.com", "mirror.com", true},
	} {
		c, err := (&Auth{Username: "u", Password: "p", ServerAddress: test.server}).bind(test.domain)
		if err != nil || c.allows(test.host) != test.want {
			t.Errorf("%+v: %v, %v", test, c.allows(test.host), err)
		}
	}
	if (credentials{}).allows("") {
		t.Error("no credentials, shown to nobody")
	}
}
