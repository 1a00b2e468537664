package layer

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/berth-runtime/berth/imagestore/fault"
)

// faulty reads like its reader, and then panics.
type faulty struct{ io.Reader }

func (f faulty) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if err == io.EOF {
		panic("a fault")
	}
	return n, err
}

// Whichever stage meets a fault, Unpack ends with it, and so do the other stages.
func TestRootUnpackPanic(t *testing.T) {
	needRoot(t)
	raw := pack(t, reg("a", "x"))
	_, err := Unpack(t.Context(), t.TempDir(), nil, from(faulty{bytes.NewReader(raw[:600])}), promise(raw, raw, ""), NewBudget(1<<20, 10, MaxWindow), nil)
	if !errors.Is(err, fault.ErrPanicked) || errors.Is(err, ErrCorrupt) {
		t.Errorf("receive: got %v", err)
	}
	_, err = Unpack(t.Context(), t.TempDir(), nil, from(bytes.NewReader(raw)), promise(raw, raw, ""), nil, nil)
	if !errors.Is(err, fault.ErrPanicked) || errors.Is(err, ErrCorrupt) {
		t.Errorf("decompress: got %v", err)
	}
}

func TestRootCheckPanic(t *testing.T) {
	needRoot(t)
	err := Check(t.Context(), t.TempDir(), faulty{bytes.NewReader(nil)}, promise(nil, nil, "").DiffID)
	if !errors.Is(err, fault.ErrPanicked) {
		t.Errorf("got %v", err)
	}
}
