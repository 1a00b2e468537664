package layer

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// zstdFrame is one of known size: a single segment.
func zstdFrame(t testing.TB, content []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithSingleSegment(true))
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(content, nil)
}

func skippable(content string) []byte {
	return append(binary.LittleEndian.AppendUint32([]byte{0x5a, 0x2a, 0x4d, 0x18}, uint32(len(content))), content...)
}

// TestZstdFramesDiffer: the frames of a stream need not have the same window, and each is counted.
func TestZstdFramesDiffer(t *testing.T) {
	small, large := []byte("a small file"), bytes.Repeat([]byte("some text, and again "), 30_000)
	for name, c := range map[string]struct {
		frames [][]byte
		held   int64 // by the end
	}{
		"small, common": {[][]byte{zstdFrame(t, small), zstdStream(t, large, commonWindow)}, commonWindow},
		"small, 16 MiB": {[][]byte{zstdFrame(t, small), zstdStream(t, large, 16<<20), zstdFrame(t, small)}, 16 << 20},
		"small, 32 MiB": {[][]byte{zstdFrame(t, small), skippable("x"), zstdStream(t, large, 32<<20)}, 32 << 20},
		"growing":       {[][]byte{zstdStream(t, large, 1<<20), zstdStream(t, large, 16<<20), zstdStream(t, large, 128<<20)}, windowBudget},
		"shrinking":     {[][]byte{zstdStream(t, large, 32<<20), zstdFrame(t, small), zstdStream(t, large, 1<<20)}, 32 << 20},
		"skip first":    {[][]byte{skippable(strings.Repeat("y", 100_000)), zstdStream(t, large, 64<<20), skippable("")}, windowBudget},
	} {
		t.Run(name, func(t *testing.T) {
			stream := slices.Concat(c.frames...)
			plain, err := zstd.NewReader(bytes.NewReader(stream), zstd.WithDecoderConcurrency(1))
			if err != nil {
				t.Fatal(err)
			}
			defer plain.Close()
			want, err := io.ReadAll(plain)
			if err != nil || len(want) < len(large) {
				t.Fatalf("%d bytes, %v", len(want), err)
			}
			z, err := Decompress(t.Context(), bytes.NewReader(stream), "", MaxWindow, nil)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(z)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes, want %d: %v", len(got), len(want), err)
			}
			wantHeld(t, c.held)
			if err := errors.Join(z.Close(), z.Close()); err != nil {
				t.Error(err)
			}
			wantHeld(t, 0)
		})
	}
}

// wantHeld looks how much of the windows' room is taken.
func wantHeld(t *testing.T, bytes int64) {
	t.Helper()
	if !decoders.room.TryAcquire(windowBudget - bytes) {
		t.Fatalf("more than %d bytes are held", bytes)
	}
	defer decoders.room.Release(windowBudget - bytes)
	if decoders.room.TryAcquire(1) {
		decoders.room.Release(1)
		t.Errorf("less than %d bytes are held", bytes)
	}
}

// TestZstdLaterFrameTooLarge: what is refused in the first frame is so in another.
func TestZstdLaterFrameTooLarge(t *testing.T) {
	text := bytes.Repeat([]byte("x"), 300_000)
	for name, stream := range map[string][]byte{
		"first":  zstdStream(t, text, 2*MaxWindow),
		"second": slices.Concat(zstdFrame(t, text), zstdStream(t, text, 2*MaxWindow)),
		"a single segment": slices.Concat(zstdFrame(t, text), []byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0}, // descriptor: 4 bytes of size, single segment
			binary.LittleEndian.AppendUint32(nil, 2*MaxWindow)),
	} {
		z, err := Decompress(t.Context(), bytes.NewReader(stream), "", MaxWindow, nil)
		if err == nil {
			var content []byte
			if content, err = io.ReadAll(z); !bytes.Equal(content, text) {
				t.Errorf("%s: %d bytes before it", name, len(content))
			}
			if _, again := z.Read(make([]byte, 1)); again != err {
				t.Errorf("%s: then %v", name, again)
			}
			z.Close()
		}
		if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "268435456 bytes") {
			t.Errorf("%s: got %v", name, err)
		}
		wantHeld(t, 0)
	}
}

// FuzzFrames: whatever comes is passed on as it is, and what is decompressed of it is what the decoder alone would make.
func FuzzFrames(f *testing.F) {
	text := bytes.Repeat([]byte("text "), 1000)
	whole := slices.Concat(zstdFrame(f, text), skippable("skip"), zstdStream(f, text, 1<<20), zstdFrame(f, nil))
	for i := range len(whole) {
		f.Add(whole[:i])
	}
	f.Add(slices.Concat(whole, []byte("rubbish")))
	f.Add(zstdStream(f, bytes.Repeat([]byte{0}, 1<<20), 1<<20))
	f.Fuzz(func(t *testing.T, stream []byte) {
		frames := newFrames(bufio.NewReader(bytes.NewReader(stream)))
		frames.allow(1 << 62)
		if passed, err := io.ReadAll(frames); err != nil || !bytes.Equal(passed, stream) {
			t.Fatalf("passed on %d of %d bytes, %v", len(passed), len(stream), err)
		}
		plain, err := zstd.NewReader(bufio.NewReader(bytes.NewReader(stream)), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(commonWindow))
		if err != nil {
			t.Fatal(err)
		}
		defer plain.Close()
		want, wantErr := io.ReadAll(io.LimitReader(plain, 16<<20))
		z, err := newZstdReader(t.Context(), bufio.NewReader(bytes.NewReader(stream)), MaxWindow, nil)
		if err != nil {
			if wantErr == nil {
				t.Fatalf("only here: %v", err)
			}
			return
		}
		defer z.Close()
		got, err := io.ReadAll(io.LimitReader(z, 16<<20))
		if wantErr == nil && (err != nil || !bytes.Equal(got, want)) || wantErr != nil && err == nil && !errors.Is(wantErr, zstd.ErrDecoderSizeExceeded) && !errors.Is(wantErr, zstd.ErrWindowSizeExceeded) {
			t.Fatalf("got %d bytes, %v; the decoder alone %d, %v", len(got), err, len(want), wantErr)
		}
	})
}
