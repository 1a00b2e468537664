package cri

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/imagestore"
)

func TestImport(t *testing.T) {
	d := open(t, &fakeRooms{images: []*imagestore.Image{{ID: "sha256:abc", Tags: []string{"naïve:1"}}}})
	for _, size := range []int{0, 1, importPiece - 1, importPiece, 3*importPiece + 5} {
		archive := bytes.Repeat([]byte("berth"), size/5+1)[:size]
		got, err := ImportImage(t.Context(), d.conn, bytes.NewReader(archive), "naïve:1")
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if len(got) != 1 || got[0].Id != "sha256:abc" || !bytes.Equal(d.rooms.imported, archive) {
			t.Errorf("%d bytes: %d arrived, answer %v", size, len(d.rooms.imported), got)
		}
	}
	if last := d.rooms.calls[len(d.rooms.calls)-1]; !reflect.DeepEqual(last, []any{"Import", "naïve:1"}) {
		t.Errorf("asked %v", last)
	}
}

// An archive that can't be read ends the import on both sides, and the store sees
// no end of it that looks regular.
func TestImportOfABrokenFile(t *testing.T) {
	d := open(t, &fakeRooms{})
	broken := errors.New("disk on fire")
	_, err := ImportImage(t.Context(), d.conn, io.MultiReader(strings.NewReader("start"), errReader{broken}), "")
	if !errors.Is(err, broken) {
		t.Errorf("%v, want the reader's error", err)
	}
	d.server.Stop(t.Context()) // waits for the server's side
	if d.rooms.imported != nil && len(d.log.AllEntries()) == 0 {
		t.Error("the store took half an archive for a whole one")
	}
	for _, e := range d.log.AllEntries() {
		if e.Data["error"] == nil {
			t.Error("the server's side ended well")
		}
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }
