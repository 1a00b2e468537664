package cri

import (
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// maxList is how many bytes of items go into one message of a list that is sent as a
// stream. An item may be larger, and then goes alone.
const maxList = 1 << 20

// sendLists sends items in messages of about maxList bytes, each item in one. CRI
// wants no empty list: of no items nothing is sent.
func sendLists[T proto.Message](items []T, send func([]T) error) error {
	return sendParts(items, func(item T) int { return proto.Size(item) }, send)
}

// sendParts is sendLists for items whose size another function knows.
func sendParts[T any](items []T, sizeOf func(T) int, send func([]T) error) error {
	start, size := 0, 0
	for i, item := range items {
		n := sizeOf(item)
		if i > start && size+n > maxList {
			if err := send(items[start:i]); err != nil {
				return err
			}
			start, size = i, 0
		}
		size += n
	}
	if start == len(items) {
		return nil
	}
	return send(items[start:])
}

// The Stream… methods are the lists of the same name, without a limit to their
// length (KEP-5825).

func (s *podCalls) StreamPodSandboxes(req *v1.StreamPodSandboxesRequest, stream grpc.ServerStreamingServer[v1.StreamPodSandboxesResponse]) error {
	filter, err := decodePodFilter(req.Filter)
	if err != nil {
		return err
	}
	return sendParts(listPods(s.pods.Pods(filter)), listItem.Len, func(part []listItem) error { return stream.SendMsg(list(part)) })
}

func (s *containerCalls) StreamContainers(req *v1.StreamContainersRequest, stream grpc.ServerStreamingServer[v1.StreamContainersResponse]) error {
	filter, err := decodeContainerFilter(req.Filter)
	if err != nil {
		return err
	}
	return sendParts(listContainers(s.containers.Containers(filter)), listItem.Len, func(part []listItem) error { return stream.SendMsg(list(part)) })
}

func (s *imageService) StreamImages(req *v1.StreamImagesRequest, stream grpc.ServerStreamingServer[v1.StreamImagesResponse]) error {
	list, err := s.ListImages(stream.Context(), &v1.ListImagesRequest{Filter: req.Filter})
	if err != nil {
		return err
	}
	return sendLists(list.Images, func(part []*v1.Image) error {
		return stream.Send(&v1.StreamImagesResponse{Images: part})
	})
}
