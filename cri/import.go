package cri

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/wrapperspb"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// CRI can't bring an image from a file, so berth has one method of its own on the
// same socket, berth.v1.Images/Import. Its messages are well-known ones: the client
// streams the archive as BytesValue, in pieces; the name that the image is to get
// goes ahead as metadata; the answer is CRI's list of what was imported.
const (
	importMethod  = "/berth.v1.Images/Import"
	importNameKey = "berth-image-name-bin" // -bin: gRPC carries any bytes
	importPiece   = 1 << 20
)

var importStream = grpc.StreamDesc{StreamName: "Import", Handler: serveImport, ClientStreams: true}

var importService = grpc.ServiceDesc{
	ServiceName: "berth.v1.Images",
	HandlerType: (*Images)(nil),
	Streams:     []grpc.StreamDesc{importStream, pullStream, exportStream, verifyStream},
}

func serveImport(images any, stream grpc.ServerStream) error {
	var name string
	if md, ok := metadata.FromIncomingContext(stream.Context()); ok {
		if values := md.Get(importNameKey); len(values) > 0 {
			name = values[0]
		}
	}
	imported, err := images.(Images).Import(stream.Context(), &pieceReader{stream: stream}, name)
	if err != nil {
		return err
	}
	out := &v1.ListImagesResponse{}
	for _, image := range imported {
		out.Images = append(out.Images, encodeImage(image))
	}
	return stream.SendMsg(out)
}

// pieceReader is the archive, put together again.
type pieceReader struct {
	stream grpc.ServerStream
	rest   []byte
}

func (r *pieceReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		var piece wrapperspb.BytesValue
		if err := r.stream.RecvMsg(&piece); err != nil {
			return 0, err // io.EOF when the client has sent all
		}
		r.rest = piece.Value
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// ImportImage sends an archive (an OCI layout or what `docker save` writes, plain
// or compressed) to the daemon at conn, and returns the images that were in it.
// name, if not empty, is the name that an archive's only image gets.
func ImportImage(ctx context.Context, conn grpc.ClientConnInterface, archive io.Reader, name string) ([]*v1.Image, error) {
	if name != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, importNameKey, name)
	}
	ctx, cancel := context.WithCancel(ctx) // ends the stream, also when the archive can't be read
	defer cancel()
	stream, err := conn.NewStream(ctx, &importStream, importMethod)
	if err != nil {
		return nil, err
	}
	if err := sendPieces(stream, archive); err != nil {
		return nil, err
	}
	var out v1.ListImagesResponse
	if err := stream.RecvMsg(&out); err != nil {
		return nil, err
	}
	return out.Images, nil
}

func sendPieces(stream grpc.ClientStream, archive io.Reader) error {
	for {
		buf := make([]byte, importPiece) // a new one: gRPC wants sent messages left alone
		n, err := io.ReadFull(archive, buf)
		if n > 0 {
			// io.EOF means that the server has answered already; RecvMsg has the error.
			if err := stream.SendMsg(wrapperspb.Bytes(buf[:n])); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return stream.CloseSend()
		case err != nil:
			return fmt.Errorf("read archive: %w", err)
		}
	}
}
