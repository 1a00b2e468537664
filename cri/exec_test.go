package cri

import (
	"bytes"
	"testing"
)

func TestFit(t *testing.T) {
	for _, c := range []struct{ stdout, stderr, wantOut, wantErr int }{
		{40, 60, 40, 60},
		{101, 0, 100, 0},
		{0, 101, 0, 100},
		{100, 20, 80, 20},
		{20, 100, 20, 80},
		{90, 95, 50, 50},
	} {
		out, err := fit(bytes.Repeat([]byte("o"), c.stdout), bytes.Repeat([]byte("e"), c.stderr), 100)
		if len(out) != c.wantOut || len(err) != c.wantErr {
			t.Errorf("%d and %d bytes became %d and %d, wanted %d and %d", c.stdout, c.stderr, len(out), len(err), c.wantOut, c.wantErr)
		}
	}
}
