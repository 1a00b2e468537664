package layer

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: layers have owners, devices and trusted.* attributes")
	}
}

type entry struct {
	tar.Header
	content string
}

func reg(name, content string) entry { return entry{tar.Header{Name: name, Mode: 0o644}, content} }
func folder(name string, mode int64) entry {
	return entry{tar.Header{Name: name, Mode: mode, Typeflag: tar.TypeDir}, ""}
}
func symlink(name, target string) entry {
	return entry{tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeSymlink}, ""}
}
func hardlink(name, target string) entry {
	return entry{tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeLink}, ""}
}

func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		hdr := e.Header
		hdr.Size = int64(len(e.content))
		if err := w.WriteHeader(&hdr); err != nil {
			t.Fatalf("%s: %v", hdr.Name, err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func gzipped(t testing.TB, raw []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func zstded(t testing.TB, raw []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(raw, nil)
}

// promise is a Blob that tells the truth.
func promise(raw, blob []byte, mediaType string) Blob {
	return Blob{MediaType: mediaType, Digest: digest.FromBytes(blob), Size: int64(len(blob)), DiffID: digest.FromBytes(raw)}
}

// unpackTar unpacks into a directory whose parent holds a file that nothing may touch.
func unpackTar(t testing.TB, raw []byte) (string, Unpacked, error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layer")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var origin bytes.Buffer
	done, err := Unpack(t.Context(), dir, &origin, from(bytes.NewReader(raw)), promise(raw, raw, ""), NewBudget(1<<30, 1<<20, MaxWindow), nil)
	if err == nil {
		checkOrigin(t, dir, raw, done, &origin)
	}
	checkTwin(t, dir, raw, err, done)
	if left := names(t, filepath.Dir(dir)); len(left) != 1 {
		t.Errorf("something left the layer: %v", left)
	}
	return dir, done, err
}

func mustUnpack(t testing.TB, entries ...entry) (string, Unpacked) {
	t.Helper()
	dir, done, err := unpackTar(t, pack(t, entries...))
	if err != nil {
		t.Fatal(err)
	}
	return dir, done
}

func names(t testing.TB, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range list {
		all = append(all, e.Name())
	}
	return all
}

func read(t testing.TB, elements ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(elements...))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestRootUnpackFormats(t *testing.T) {
	needRoot(t)
	big := make([]byte, 3*blockSize+17)
	rand.Read(big)
	raw := pack(t, reg("big", string(big)), reg("small", "x"))
	half := len(raw) / 2
	members := append(gzipped(t, raw[:half]), gzipped(t, raw[half:])...) // as estargz
	skippable := append([]byte{0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4}, zstded(t, raw)...)
	for name, test := range map[string]struct {
		blob      []byte
		mediaType string
	}{
		"plain":             {raw, "application/vnd.oci.image.layer.v1.tar"},
		"gzip":              {gzipped(t, raw), "application/vnd.oci.image.layer.v1.tar+gzip"},
		"gzip members":      {members, "application/vnd.oci.image.layer.v1.tar+gzip"},
		"zstd":              {zstded(t, raw), "application/vnd.oci.image.layer.v1.tar+zstd"},
		"zstd skippable":    {skippable, "application/vnd.oci.image.layer.v1.tar+zstd"},
		"gzip said plain":   {gzipped(t, raw), "application/vnd.docker.image.rootfs.diff.tar"},
		"zstd said gzip":    {zstded(t, raw), "application/vnd.docker.image.rootfs.diff.tar.gzip"},
		"plain said gzip":   {raw, "application/vnd.oci.image.layer.v1.tar+gzip"},
		"plain said zstd":   {raw, "application/vnd.oci.image.layer.v1.tar+zstd"},
		"nothing was said":  {gzipped(t, raw), ""},
		"padded, plain tar": {raw, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := Unpack(t.Context(), dir, nil, from(bytes.NewReader(test.blob)), promise(raw, test.blob, test.mediaType), NewBudget(1<<20, 10, MaxWindow), nil)
			if err != nil {
				t.Fatal(err)
			}
			if read(t, dir, "big") != string(big) {
				t.Error("content differs")
			}
		})
	}
}

func TestRootUnpackLies(t *testing.T) {
	needRoot(t)
	raw := pack(t, reg("file", strings.Repeat("content ", 100_000)))
	blob := gzipped(t, raw)
	good := promise(raw, blob, "application/vnd.oci.image.layer.v1.tar+gzip")
	flipped := bytes.Clone(blob)
	flipped[len(flipped)/2] ^= 0x40
	other := digest.FromString("other")
	with := func(change func(*Blob)) Blob { b := good; change(&b); return b }
	for name, test := range map[string]struct {
		blob  []byte
		want  Blob
		error string
	}{
		"wrong digest":         {blob, with(func(b *Blob) { b.Digest = other }), "check digest"},
		"wrong diff-ID":        {blob, with(func(b *Blob) { b.DiffID = other }), "check diff-ID"},
		"shorter than said":    {blob, with(func(b *Blob) { b.Size++ }), "receive: ended after"},
		"longer than said":     {blob, with(func(b *Blob) { b.Size-- }), "receive: more than"},
		"truncated":            {blob[:len(blob)-20], good, "receive: ended after"},
		"truncated, size lies": {blob[:len(blob)-20], promise(raw, blob[:len(blob)-20], ""), "decompress"},
		"empty":                {nil, good, "ended after 0"},
		"a bit flipped":        {flipped, good, ""},
		"garbage after it":     {append(bytes.Clone(blob), "garbage"...), promise(raw, append(bytes.Clone(blob), "garbage"...), ""), "decompress"},
		"said gzip, is not":    {[]byte(strings.Repeat("no gzip", 1000)), promise([]byte(strings.Repeat("no gzip", 1000)), []byte(strings.Repeat("no gzip", 1000)), "application/vnd.oci.image.layer.v1.tar+gzip"), "media type"},
		"not a tar":            {[]byte(strings.Repeat("no tar", 1000)), promise([]byte(strings.Repeat("no tar", 1000)), []byte(strings.Repeat("no tar", 1000)), ""), "read tar"},
		"digest unreadable":    {blob, with(func(b *Blob) { b.Digest = "sha256:.." }), "digest"},
		"diff-ID sha512":       {blob, with(func(b *Blob) { b.DiffID = digest.SHA512.FromBytes(raw) }), "diff-ID"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Unpack(t.Context(), t.TempDir(), nil, from(bytes.NewReader(test.blob)), test.want, NewBudget(1<<30, 100, MaxWindow), nil)
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), test.error) {
				t.Errorf("got error %v, want %q", err, test.error)
			}
		})
	}
}

func TestRootUnpackTruncatedTar(t *testing.T) {
	needRoot(t)
	raw := pack(t, reg("a", strings.Repeat("x", 2000)), reg("b", "y"))[:1500]
	_, _, err := unpackTar(t, raw)
	if !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %v", err)
	}
}

func TestRootUnpackBudget(t *testing.T) {
	needRoot(t)
	bomb := pack(t, reg("zeros", strings.Repeat("\x00", 8<<20)))
	many := pack(t, reg("a", ""), reg("b", ""), reg("c", ""))
	long := reg("long", "")
	long.PAXRecords = map[string]string{"VENDOR.x": strings.Repeat("x", 1_000_000)}
	headers := pack(t, long, long, long, long)
	for name, test := range map[string]struct {
		raw    []byte
		budget *Budget
	}{
		"bytes":   {bomb, NewBudget(8<<20-1, 10, MaxWindow)},
		"entries": {many, NewBudget(1<<20, 2, MaxWindow)},
		"headers": {headers, NewBudget(1<<20, 10, MaxWindow)},
		"shared":  {many, func() *Budget { b := NewBudget(1<<20, 3, MaxWindow); b.takeEntry(0); return b }()},
	} {
		t.Run(name, func(t *testing.T) {
			blob := gzipped(t, test.raw)
			_, err := Unpack(t.Context(), t.TempDir(), nil, from(bytes.NewReader(blob)), promise(test.raw, blob, ""), test.budget, nil)
			if !errors.Is(err, ErrTooLarge) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// sparse is a tar as GNU tar --sparse makes it, version 1.0: a file of that size, of which only the last bytes are there.
func sparse(t testing.TB, size int64, tail string) []byte {
	t.Helper()
	extents := fmt.Sprintf("1\n%d\n%d\n", size-int64(len(tail)), len(tail))
	content := extents + strings.Repeat("\x00", 512-len(extents)) + tail
	e := entry{tar.Header{Name: "sparse", Mode: 0o644, Format: tar.FormatPAX, PAXRecords: map[string]string{
		"VND.sparse.major": "1", "VND.sparse.minor": "0", "VND.sparse.realsize": strconv.FormatInt(size, 10)}}, content}
	// tar.Writer refuses to write the real keys.
	return bytes.ReplaceAll(pack(t, e), []byte("VND.sparse"), []byte("GNU.sparse"))
}

func TestRootUnpackSparse(t *testing.T) {
	needRoot(t)
	const size = 16 << 20
	dir, done, err := unpackTar(t, sparse(t, size, "tail"))
	if err != nil {
		t.Fatal(err)
	}
	content := read(t, dir, "sparse")
	if len(content) != size || !strings.HasSuffix(content, "\x00tail") {
		t.Errorf("%d bytes, ending in %q", len(content), content[len(content)-8:])
	}
	if st := lstat(t, dir, "sparse"); st.Blocks*512 > 64<<10 {
		t.Errorf("the hole was filled: %d blocks", st.Blocks)
	}
	if done.Bytes != 2*diskBlock {
		t.Errorf("counted %d bytes", done.Bytes)
	}
}

// TestRootUnpackSparseBomb: a header of a kilobyte that claims a file of 4 EiB must not be written out.
func TestRootUnpackSparseBomb(t *testing.T) {
	needRoot(t)
	started := time.Now()
	if _, _, err := unpackTar(t, sparse(t, 1<<62, "tail")); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(started); took > time.Second {
		t.Errorf("took %v", took)
	}
}

// from opens a reader whose reading doesn't wait.
func from(r io.Reader) Opener {
	return func(context.Context) (io.ReadCloser, error) { return io.NopCloser(r), nil }
}

// stalled brings some bytes, and then waits for its context.
func stalled(start []byte) Opener {
	return func(ctx context.Context) (io.ReadCloser, error) {
		r, w := io.Pipe()
		context.AfterFunc(ctx, func() { w.CloseWithError(context.Cause(ctx)) })
		go w.Write(start) // ends with the pipe
		return r, nil
	}
}

func TestRootUnpackStops(t *testing.T) {
	needRoot(t)
	raw := pack(t, reg("a", strings.Repeat("x", 1<<20)))
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { cancel(cause) })
	started := time.Now()
	_, err := Unpack(ctx, t.TempDir(), nil, stalled(raw[:len(raw)/2]), promise(raw, raw, ""), NewBudget(math.MaxInt32, 10, MaxWindow), nil)
	if !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(started); took > time.Second {
		t.Errorf("took %v to stop", took)
	}
}

// TestRootUnpackGivesUp: what is wrong with the beginning isn't found out only when the rest has come.
func TestRootUnpackGivesUp(t *testing.T) {
	needRoot(t)
	raw := pack(t, reg("../out", "x"), reg("a", strings.Repeat("x", 4*blockSize)))
	started := time.Now()
	_, err := Unpack(t.Context(), t.TempDir(), nil, stalled(raw[:2*blockSize]), promise(raw, raw, ""), NewBudget(math.MaxInt32, 10, MaxWindow), nil)
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "climbs out") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(started); took > time.Second {
		t.Errorf("took %v", took)
	}
}

// brokenReader ends with an error that is nobody's fault.
type brokenReader struct {
	io.Reader
	err error
}

func (b brokenReader) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		err = b.err
	}
	return n, err
}

func TestRootUnpackKeepsReadersError(t *testing.T) {
	needRoot(t)
	raw := pack(t, reg("a", strings.Repeat("x", 1<<20)))
	reset := errors.New("connection reset")
	for name, blob := range map[string][]byte{"plain": raw, "gzip": gzipped(t, raw), "zstd": zstded(t, raw)} {
		t.Run(name, func(t *testing.T) {
			r := brokenReader{bytes.NewReader(blob[:len(blob)/2]), reset}
			_, err := Unpack(t.Context(), t.TempDir(), nil, from(r), promise(raw, blob, ""), NewBudget(1<<30, 10, MaxWindow), nil)
			if !errors.Is(err, reset) || errors.Is(err, ErrCorrupt) {
				t.Errorf("got %v", err)
			}
		})
	}
}
