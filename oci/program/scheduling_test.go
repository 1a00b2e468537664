package program

import (
	"encoding/hex"
	"testing"
)

func TestMask(t *testing.T) {
	for list, want := range map[string]string{"0": "0100000000000000", "0-2,5": "2700000000000000", "1, 64": "02000000000000000100000000000000", "63": "0000000000000080"} {
		b := newCompiler()
		if got := hex.EncodeToString(b.mask("x", list)); got != want || b.err != nil {
			t.Errorf("%s: %s, %v; want %s", list, got, b.err, want)
		}
	}
	for _, list := range []string{"", "a", "0-", "-1", "3-2", "8192", "0,,1", "0-99999999999"} {
		b := newCompiler()
		if b.mask("x", list); b.err == nil {
			t.Errorf("%q is taken", list)
		}
	}
}
