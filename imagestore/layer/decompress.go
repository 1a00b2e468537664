package layer

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// Decompress finds out how r is compressed and returns its content. The first bytes decide, as the media type often lies:
// gzip (RFC 1952, several members too, as estargz has them), zstd (RFC 8878, skippable frames too, as zstd:chunked has them), or not at all.
// mediaType is asked only about what isn't known by its beginning, so that it is an error and not a strange tar. A zstd window of more than so many
// bytes is ErrTooLarge, here or from the result. Decompress waits while too
// much memory is in use by other streams, until ctx ends, and calls waiting, which may be nil, every second meanwhile. Closing the result
// doesn't close r.
func Decompress(ctx context.Context, r io.Reader, mediaType string, window int64, waiting func()) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	magic, err := buffered.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, gzipMagic):
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, corrupt("decompress: %w", err)
		}
		return z, nil
	case bytes.HasPrefix(magic, zstdMagic), isSkippableFrame(magic):
		return newZstdReader(ctx, buffered, window, waiting)
	}
	if kind := promised(mediaType); kind != "" && !isTar(buffered) {
		return nil, corrupt("decompress: the media type says %s, the data is something else", kind)
	}
	return io.NopCloser(buffered), nil
}

// MediaType tells what an OCI manifest calls a layer with this content, by its first bytes.
func MediaType(blob io.ReaderAt) (string, error) {
	magic := make([]byte, 4)
	n, err := blob.ReadAt(magic, 0)
	if err != nil && err != io.EOF {
		return "", err
	}
	switch magic = magic[:n]; {
	case bytes.HasPrefix(magic, gzipMagic):
		return ocispec.MediaTypeImageLayerGzip, nil
	case bytes.HasPrefix(magic, zstdMagic), isSkippableFrame(magic):
		return ocispec.MediaTypeImageLayerZstd, nil
	}
	return ocispec.MediaTypeImageLayer, nil
}

// isSkippableFrame: RFC 8878 section 3.1.2, magic numbers 0x184D2A50 to 0x184D2A5F. No tar starts so.
func isSkippableFrame(magic []byte) bool {
	return len(magic) == 4 && magic[0]&0xf0 == 0x50 && magic[1] == 0x2a && magic[2] == 0x4d && magic[3] == 0x18
}

// isTar finds what headers of POSIX and GNU tars have at that place.
func isTar(r *bufio.Reader) bool {
	header, _ := r.Peek(262) // what is shorter is none
	return len(header) == 262 && string(header[257:]) == "ustar"
}

func promised(mediaType string) string {
	switch {
	case strings.HasSuffix(mediaType, "+gzip"), strings.HasSuffix(mediaType, ".gzip"):
		return "gzip"
	case strings.HasSuffix(mediaType, "+zstd"), strings.HasSuffix(mediaType, ".zstd"):
		return "zstd"
	}
	return ""
}

// corruptError is an error whose cause is what was sent, not this machine.
type corruptError struct{ error }

func (e corruptError) Unwrap() []error { return []error{ErrCorrupt, e.error} }

func corrupt(format string, args ...any) error {
	return corruptError{fmt.Errorf(format, args...)}
}
