package layer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// zstdStream is what a compressor writes that doesn't know the size, and so names its window.
func zstdStream(t testing.TB, content []byte, window int) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := zstd.NewWriter(&buf, zstd.WithWindowSize(window))
	if err != nil {
		t.Fatal(err)
	}
	for part := range slices.Chunk(content, 100_000) {
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Flush(), w.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestZstdWindows(t *testing.T) {
	content := bytes.Repeat([]byte("some text, and again "), 30_000)
	for _, window := range []int{1 << 20, commonWindow, 32 << 20, MaxWindow} {
		for range 2 { // the second takes the first's decoder
			z, err := Decompress(t.Context(), bytes.NewReader(zstdStream(t, content, window)), "", MaxWindow, nil)
			if err != nil {
				t.Fatalf("%d: %v", window, err)
			}
			if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d: %d bytes, %v", window, len(got), err)
			}
			z.Close()
		}
	}
	wantHeld(t, 0)
}

// TestZstdLargeWindowsWait: one at a time, and whoever waits says that it lives, and goes when its context ends.
func TestZstdLargeWindowsWait(t *testing.T) {
	stream := zstdStream(t, bytes.Repeat([]byte("x"), 300_000), 64<<20)
	first, err := Decompress(t.Context(), bytes.NewReader(stream), "", MaxWindow, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	_, err = Decompress(ctx, bytes.NewReader(stream), "", MaxWindow, func() { cancel(enough) })
	if !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
	time.AfterFunc(10*time.Millisecond, func() { first.Close() })
	second, err := Decompress(t.Context(), bytes.NewReader(stream), "", MaxWindow, nil)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
}

// TestZstdWindowsFillTheRoom: as many streams at once as their windows leave room for.
func TestZstdWindowsFillTheRoom(t *testing.T) {
	stream := zstdStream(t, bytes.Repeat([]byte("x"), 300_000), 8<<20)
	var open []io.Closer
	for range windowBudget / (8 << 20) {
		z, err := Decompress(t.Context(), bytes.NewReader(stream), "", MaxWindow, nil)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, z)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Decompress(ctx, bytes.NewReader(stream), "", MaxWindow, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one more: %v", err)
	}
	for _, z := range open {
		z.Close()
	}
	wantHeld(t, 0)
}

// TestSpareDecoders: a decoder is kept for the next layer of such windows, makes room for others, and isn't kept for long.
func TestSpareDecoders(t *testing.T) {
	p := newDecoderPool()
	take := func(window uint64) *decoder {
		t.Helper()
		d, err := p.take(t.Context(), window, nil)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	large, small := take(64<<20), (*decoder)(nil)
	p.give(large)
	if again := take(64 << 20); again != large {
		t.Error("another large one was made")
	}
	p.give(large)
	if small = take(1); len(p.spare) != 0 {
		t.Error("the large one stayed beside another")
	}
	second := take(commonWindow)
	p.give(small)
	p.give(second)
	if d := take(2 << 20); d != small || len(p.spare) != 1 {
		t.Errorf("it wasn't kept: %d are spare", len(p.spare))
	}
	p.give(small)
	time.Sleep(spareTime + time.Second)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.spare) != 0 || p.used != 0 {
		t.Errorf("%d are still there, %d bytes are used", len(p.spare), p.used)
	}
}
