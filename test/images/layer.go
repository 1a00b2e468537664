package images

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// layer is a v1.Layer whose every part is given, the untrue ones too.
type layer struct {
	v1.Layer         // the compressed bytes, their digest, size and media type
	diffID   v1.Hash // of the plain tar
	plain    []byte
}

func (l layer) DiffID() (v1.Hash, error) { return l.diffID, nil }

func (l layer) Uncompressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.plain)), nil
}

// newLayer compresses archive as mediaType says.
func newLayer(archive []byte, mediaType types.MediaType) (v1.Layer, error) {
	diffID, _, err := v1.SHA256(bytes.NewReader(archive))
	if err != nil {
		return nil, fmt.Errorf("hash layer: %w", err)
	}
	blob, err := compress(archive, mediaType)
	if err != nil {
		return nil, err
	}
	return layer{static.NewLayer(blob, mediaType), diffID, archive}, nil
}

// rawLayer is blob as it stands, said to be of mediaType.
func rawLayer(blob []byte, mediaType types.MediaType, diffID v1.Hash) v1.Layer {
	return layer{static.NewLayer(blob, mediaType), diffID, blob}
}

func compress(archive []byte, mediaType types.MediaType) ([]byte, error) {
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch mediaType {
	case types.OCIUncompressedLayer, types.DockerUncompressedLayer:
		return archive, nil
	case types.OCILayerZStd:
		w, err = zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
	default:
		w = gzip.NewWriter(&out)
	}
	if err != nil {
		return nil, fmt.Errorf("compress layer: %w", err)
	}
	if _, err = w.Write(archive); err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("compress layer: %w", err)
	}
	return out.Bytes(), nil
}
