package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/imagestore"
)

func TestParseCredentials(t *testing.T) {
	for name, c := range map[string]struct {
		text, in string
		want     *imagestore.Auth
		wrong    string
	}{
		"none":                {"", "x\n", nil, ""},
		"both":                {"me:se:cret", "x\n", &imagestore.Auth{Username: "me", Password: "se:cret"}, ""},
		"empty password":      {"me:", "x\n", &imagestore.Auth{Username: "me"}, ""},
		"from standard input": {"me", "s3cret\r\nmore\n", &imagestore.Auth{Username: "me", Password: "s3cret"}, ""},
		"without an end":      {"me", "s3cret", &imagestore.Auth{Username: "me", Password: "s3cret"}, ""},
		"nothing to read":     {"me", "", nil, "password of me"},
		"no user":             {":s3cret", "", nil, "no user name"},
	} {
		path := filepath.Join(t.TempDir(), "in")
		if err := os.WriteFile(path, []byte(c.in), 0o600); err != nil {
			t.Fatal(err)
		}
		in, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseCredentials(c.text, in)
		in.Close()
		switch {
		case c.wrong != "":
			if err == nil || !strings.Contains(err.Error(), c.wrong) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%s: %v", name, err)
			}
		case err != nil, (got == nil) != (c.want == nil), got != nil && *got != *c.want:
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
