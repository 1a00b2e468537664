package unpack

import (
	"bytes"
	"testing"
)

func TestReader(t *testing.T) {
	r := NewReader([]byte{1, 2, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0x80, 'a', 'b', 'c'})
	if a, b, c, d := r.U8(), r.U16(), r.U32(), r.U64(); a != 1 || b != 2 || c != 3 || d != 4|1<<63 {
		t.Errorf("got %d, %d, %d, %#x", a, b, c, d)
	}
	if v := r.Bytes(2); string(v) != "ab" || cap(v) != 2 {
		t.Errorf("got %q with room for %d", v, cap(v))
	}
	if r.Len() != 1 || r.Short() {
		t.Errorf("%d bytes are left, short: %v", r.Len(), r.Short())
	}
	if v := r.Bytes(0); v == nil || r.Short() {
		t.Error("nothing can't be read")
	}
}

func TestReaderBeyondTheEnd(t *testing.T) {
	for name, read := range map[string]func(*Reader) uint64{
		"U8":       func(r *Reader) uint64 { r.Bytes(3); return uint64(r.U8()) },
		"U16":      func(r *Reader) uint64 { r.Bytes(2); return uint64(r.U16()) },
		"U32":      func(r *Reader) uint64 { return uint64(r.U32()) },
		"U64":      (*Reader).U64,
		"Bytes":    func(r *Reader) uint64 { return uint64(len(r.Bytes(4))) },
		"negative": func(r *Reader) uint64 { return uint64(len(r.Bytes(-1))) },
		"Fail":     func(r *Reader) uint64 { r.Fail(); return 0 },
		"size":     func(r *Reader) uint64 { return uint64(r.Count(2, 2, 9)) },
		"limit":    func(r *Reader) uint64 { return uint64(r.Count(3, 1, 2)) },
	} {
		r := NewReader([]byte{1, 2, 3})
		if v := read(&r); v != 0 || !r.Short() || r.Len() != 0 {
			t.Errorf("%s: value %d, short %v, %d left", name, v, r.Short(), r.Len())
		}
		if r.U8() != 0 || r.Count(0, 1, 1) != 0 || !r.Short() {
			t.Errorf("%s: it goes on", name)
		}
	}
	r := NewReader(bytes.Repeat([]byte{1}, 6))
	if n := r.Count(3, 2, 3); n != 3 || r.Short() {
		t.Errorf("count %d, short %v", n, r.Short())
	}
}
