package cri

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/sandbox"
)

// list is an answer that lists pods or containers: its items, one after the other. Each is made once, and kept with the
// moment that it shows, and a list has no copy of them. kubelet asks each second: to encode a thousand containers anew would
// take three milliseconds of a processor and leave two megabytes of garbage, and a copy of all still a megabyte, which
// the collector has to clear away while pods start.
//
// It is no message of protobuf's, but what one would be encoded to; codec sends it as it is.
type list mem.BufferSlice

// listItem is a pod or a container as it stands in a list's message: the field with its tag and length.
type listItem = mem.Buffer

// itemsField is the number of the field that holds the items, in each message that a list stands for:
// List…Response and Stream…Response of pods and of containers.
const itemsField protowire.Number = 1

func listPods(pods []*sandbox.PodInfo) list {
	out := make(list, 0, len(pods))
	for _, p := range pods {
		out = append(out, p.Listed.Of(func() any { return encodeItem(encodePod(p)) }).(listItem))
	}
	return out
}

func listContainers(containers []*sandbox.ContainerInfo) list {
	out := make(list, 0, len(containers))
	for _, c := range containers {
		out = append(out, c.Listed.Of(func() any { return encodeItem(encodeContainer(c)) }).(listItem))
	}
	return out
}

// encodeItem panics when a string isn't UTF-8: none such gets in by a request.
func encodeItem(m proto.Message) listItem {
	size := proto.Size(m)
	out := make([]byte, 0, protowire.SizeTag(itemsField)+protowire.SizeBytes(size))
	out = protowire.AppendTag(out, itemsField, protowire.BytesType)
	out = protowire.AppendVarint(out, uint64(size))
	out, err := proto.MarshalOptions{}.MarshalAppend(out, m)
	if err != nil {
		panic(err)
	}
	return mem.SliceBuffer(out) // which nobody frees: it may be in many lists
}

// lister answers the requests for a list, in the place of the generated handlers, which can only return messages. It
// stands innermost around all requests.
type lister struct {
	pods       Pods
	containers Containers
}

func (l *lister) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	switch req := req.(type) {
	case *v1.ListPodSandboxRequest:
		filter, err := decodePodFilter(req.Filter)
		if err != nil {
			return nil, err
		}
		return listPods(l.pods.Pods(filter)), nil
	case *v1.ListContainersRequest:
		filter, err := decodeContainerFilter(req.Filter)
		if err != nil {
			return nil, err
		}
		return listContainers(l.containers.Containers(filter)), nil
	}
	return handle(ctx, req)
}

// codec encodes and decodes by protobuf, and leaves lists as they are.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if l, ok := v.(list); ok {
		return mem.BufferSlice(l), nil
	}
	return c.CodecV2.Marshal(v)
}
