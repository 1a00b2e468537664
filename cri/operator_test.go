package cri

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/berth-runtime/berth/imagestore"
)

// slowPull takes long enough to be asked how far it is.
type slowPull struct{ fakeImages }

func (s slowPull) Pull(ctx context.Context, ref string, auth *imagestore.Auth) (*imagestore.Image, error) {
	select {
	case <-time.After(3 * reportEvery):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return s.fakeImages.Pull(ctx, ref, auth)
}

func TestPullWithProgress(t *testing.T) {
	rooms := &fakeRooms{images: []*imagestore.Image{{ID: "sha256:abc"}}}
	d := openWith(t, rooms, slowPull{fakeImages{rooms}})
	var last []imagestore.LayerProgress
	id, err := PullImage(t.Context(), d.conn, "some:1", nil, func(l []imagestore.LayerProgress) { last = l })
	want := []imagestore.LayerProgress{{Blob: "sha256:blob", State: "pulling", Received: 5, Total: 1 << 40}}
	if err != nil || id != "sha256:abc" || !reflect.DeepEqual(last, want) {
		t.Errorf("%q, %v, %v", id, last, err)
	}
	if _, err := PullImage(t.Context(), d.conn, "", nil, nil); err == nil || !strings.Contains(err.Error(), "image.image") {
		t.Errorf("without a name: %v", err)
	}
}

func TestExport(t *testing.T) {
	rooms := &fakeRooms{imported: bytes.Repeat([]byte("berth"), importPiece/2)}
	d := open(t, rooms)
	var out bytes.Buffer
	if err := ExportImages(t.Context(), d.conn, []string{"a:1", "b:2"}, &out); err != nil || !bytes.Equal(out.Bytes(), rooms.imported) {
		t.Errorf("%d bytes, %v", out.Len(), err)
	}
	if last := rooms.calls[len(rooms.calls)-1]; !reflect.DeepEqual(last, []any{"Export", []string{"a:1", "b:2"}}) {
		t.Errorf("asked %v", last)
	}
	full := errors.New("full")
	if err := ExportImages(t.Context(), d.conn, []string{"a:1"}, failWriter{full}); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
}

type failWriter struct{ err error }

func (w failWriter) Write([]byte) (int, error) { return 0, w.err }

func TestVerify(t *testing.T) {
	d := open(t, &fakeRooms{})
	var got []imagestore.LayerCheck
	err := VerifyImages(t.Context(), d.conn, []string{"a:1"}, true, func(c imagestore.LayerCheck) { got = append(got, c) })
	want := []imagestore.LayerCheck{{Image: "sha256:abc", Layer: "sha256:def", Problem: "bad", Damaged: true, Repaired: true}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if last := d.rooms.calls[len(d.rooms.calls)-1]; !reflect.DeepEqual(last, []any{"Verify", []string{"a:1"}, true}) {
		t.Errorf("asked %v", last)
	}
}
