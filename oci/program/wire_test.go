package program

import (
	"bytes"
	"testing"
)

func TestMarshalRoundTrip(t *testing.T) {
	for name, compile := range golden {
		p, err := compile()
		if err != nil {
			t.Fatal(err)
		}
		b, err := p.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		q, err := Unmarshal(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		again, err := q.Marshal()
		if err != nil || !bytes.Equal(b, again) {
			t.Errorf("%s: the wire form changes on its way (%v)", name, err)
		}
		for cut := range len(b) {
			if _, err := Unmarshal(b[:cut]); err == nil {
				t.Fatalf("%s: cut at %d of %d: no error", name, cut, len(b))
			}
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	for _, compile := range golden {
		p, err := compile()
		if err != nil {
			f.Fatal(err)
		}
		b, _ := p.Marshal()
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Unmarshal(b)
		if err != nil {
			return
		}
		if err := p.check(); err != nil {
			t.Fatalf("accepted a program that is out of range: %v", err)
		}
		if _, err := p.Marshal(); err != nil {
			t.Fatal(err)
		}
	})
}
