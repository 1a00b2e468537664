package cri

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/berth-runtime/berth/imagestore"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// What else CRI can't do and the operator's command wants: berth.v1.Images has, beside
// Import, three methods that answer by a stream. Their messages are well-known ones too:
//
//	Pull    CRI's PullImageRequest → {"layers": […]} now and then, {"image": ID} at the end
//	Export  a list of references   → the archive, in pieces
//	Verify  {"refs", "repair"}     → a layer's check each
const (
	pullMethod   = "/berth.v1.Images/Pull"
	exportMethod = "/berth.v1.Images/Export"
	verifyMethod = "/berth.v1.Images/Verify"
	// reportEvery is how often a pull's progress is told.
	reportEvery = 200 * time.Millisecond
)

var (
	pullStream   = grpc.StreamDesc{StreamName: "Pull", Handler: servePull, ServerStreams: true}
	exportStream = grpc.StreamDesc{StreamName: "Export", Handler: serveExport, ServerStreams: true}
	verifyStream = grpc.StreamDesc{StreamName: "Verify", Handler: serveVerify, ServerStreams: true}
)

// pullReport is a message of Pull.
type pullReport struct {
	Layers []imagestore.LayerProgress `json:"layers,omitempty"`
	Image  string                     `json:"image,omitempty"`
}

// verifyOrder is the request of Verify.
type verifyOrder struct {
	Refs   []string `json:"refs"`
	Repair bool     `json:"repair"`
}

func servePull(service any, stream grpc.ServerStream) error {
	images := service.(Images)
	var req v1.PullImageRequest
	if err := stream.RecvMsg(&req); err != nil {
		return err
	}
	ref, auth := req.GetImage().GetImage(), decodeAuth(req.Auth)
	if ref == "" {
		return missing("image.image")
	}
	type outcome struct {
		image *imagestore.Image
		err   error
	}
	pulled := make(chan outcome, 1)
	go func() { // ends with the pull, which ends with the stream's context
		image, err := images.Pull(stream.Context(), ref, auth)
		pulled <- outcome{image, err}
	}()
	ticker := time.NewTicker(reportEvery)
	defer ticker.Stop()
	for {
		select {
		case o := <-pulled:
			if o.err != nil {
				return o.err
			}
			return sendJSON(stream, pullReport{Image: o.image.ID})
		case <-ticker.C:
			if err := sendJSON(stream, pullReport{Layers: images.PullProgress(ref, auth)}); err != nil {
				return err
			}
		}
	}
}

func serveExport(service any, stream grpc.ServerStream) error {
	var refs structpb.ListValue
	if err := stream.RecvMsg(&refs); err != nil {
		return err
	}
	var names []string
	for _, value := range refs.Values {
		names = append(names, value.GetStringValue())
	}
	out := bufio.NewWriterSize(pieceWriter{stream}, importPiece)
	if err := service.(Images).Export(stream.Context(), names, out); err != nil {
		return err
	}
	return out.Flush()
}

// pieceWriter sends each write as a message.
type pieceWriter struct{ stream grpc.ServerStream }

func (w pieceWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		piece := rest[:min(len(rest), importPiece)]
		rest = rest[len(piece):]
		if err := w.stream.SendMsg(wrapperspb.Bytes(append([]byte(nil), piece...))); err != nil { // gRPC wants sent messages left alone
			return 0, err
		}
	}
	return len(p), nil
}

func serveVerify(service any, stream grpc.ServerStream) error {
	var order verifyOrder
	if err := recvJSON(stream, &order); err != nil {
		return err
	}
	var failed error
	err := service.(Images).Verify(stream.Context(), order.Refs, order.Repair, func(check imagestore.LayerCheck) {
		failed = errors.Join(failed, sendJSON(stream, check))
	})
	return errors.Join(err, failed)
}

// messages is what grpc.ServerStream and grpc.ClientStream have in common.
type messages interface {
	SendMsg(m any) error
	RecvMsg(m any) error
}

func sendJSON(stream messages, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	m := new(structpb.Struct)
	if err := protojson.Unmarshal(raw, m); err != nil {
		return err
	}
	return stream.SendMsg(m)
}

func recvJSON(stream messages, v any) error {
	m := new(structpb.Struct)
	if err := stream.RecvMsg(m); err != nil {
		return err
	}
	raw, err := protojson.Marshal(m)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, v)
}

// PullImage has the daemon at conn pull an image, and tells how far it is now and then. It returns the image's id. auth
// may be nil; of it only user name and password count.
func PullImage(ctx context.Context, conn grpc.ClientConnInterface, ref string, auth *imagestore.Auth, report func([]imagestore.LayerProgress)) (string, error) {
	stream, end, err := ask(ctx, conn, &pullStream, pullMethod, func(s grpc.ClientStream) error {
		req := &v1.PullImageRequest{Image: &v1.ImageSpec{Image: ref}}
		if auth != nil {
			req.Auth = &v1.AuthConfig{Username: auth.Username, Password: auth.Password}
		}
		return s.SendMsg(req)
	})
	if err != nil {
		return "", err
	}
	defer end()
	for {
		var r pullReport
		if err := recvJSON(stream, &r); err != nil {
			return "", err
		}
		if r.Image != "" {
			return r.Image, nil
		}
		report(r.Layers)
	}
}

// ExportImages writes an archive of images of the daemon at conn.
func ExportImages(ctx context.Context, conn grpc.ClientConnInterface, refs []string, w io.Writer) error {
	stream, end, err := ask(ctx, conn, &exportStream, exportMethod, func(s grpc.ClientStream) error {
		list := new(structpb.ListValue)
		for _, ref := range refs {
			list.Values = append(list.Values, structpb.NewStringValue(ref))
		}
		return s.SendMsg(list)
	})
	if err != nil {
		return err
	}
	defer end()
	for {
		var piece wrapperspb.BytesValue
		if err := stream.RecvMsg(&piece); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if _, err := w.Write(piece.Value); err != nil {
			return err
		}
	}
}

// VerifyImages has the daemon at conn check layers, of all images where refs is empty, and reports each.
func VerifyImages(ctx context.Context, conn grpc.ClientConnInterface, refs []string, repair bool, report func(imagestore.LayerCheck)) error {
	stream, end, err := ask(ctx, conn, &verifyStream, verifyMethod, func(s grpc.ClientStream) error {
		return sendJSON(s, verifyOrder{Refs: refs, Repair: repair})
	})
	if err != nil {
		return err
	}
	defer end()
	for {
		var check imagestore.LayerCheck
		if err := recvJSON(stream, &check); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		report(check)
	}
}

// ask opens a stream and sends the one request. end gives the stream up.
func ask(ctx context.Context, conn grpc.ClientConnInterface, desc *grpc.StreamDesc, method string, send func(grpc.ClientStream) error) (_ grpc.ClientStream, end func(), err error) {
	ctx, end = context.WithCancel(ctx)
	stream, err := conn.NewStream(ctx, desc, method)
	if err == nil {
		err = errors.Join(send(stream), stream.CloseSend())
	}
	if err != nil {
		end()
		return nil, nil, err
	}
	return stream, end, nil
}
