package cri

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/berth-runtime/berth/sandbox"
)

// listItem is a pod or a container as it stands in a list's message: the field with its tag and length. It is made once
// and kept with the moment that it shows. Encoding a thousand containers anew takes three milliseconds of a processor,
// and makes two megabytes of garbage; kubelet asks each second.
type listItem []byte

// itemsField is the number of the field that holds the items, in each of the messages that setItems fills.
const itemsField protowire.Number = 1

func listPods(pods []*sandbox.PodInfo) []listItem {
	out := make([]listItem, 0, len(pods))
	for _, p := range pods {
		out = append(out, p.Listed.Bytes(func() []byte { return encodeItem(encodePod(p)) }))
	}
	return out
}

func listContainers(containers []*sandbox.ContainerInfo) []listItem {
	out := make([]listItem, 0, len(containers))
	for _, c := range containers {
		out = append(out, c.Listed.Bytes(func() []byte { return encodeItem(encodeContainer(c)) }))
	}
	return out
}

// encodeItem panics when a string isn't UTF-8: none such gets in by a request.
func encodeItem(m proto.Message) []byte {
	size := proto.Size(m)
	out := make([]byte, 0, protowire.SizeTag(itemsField)+protowire.SizeBytes(size))
	out = protowire.AppendTag(out, itemsField, protowire.BytesType)
	out = protowire.AppendVarint(out, uint64(size))
	out, err := proto.MarshalOptions{}.MarshalAppend(out, m)
	if err != nil {
		panic(err)
	}
	return out
}

// size is how long it is in a message.
func (i listItem) size() int { return len(i) }

// setItems gives a message its items. They go in as fields that it doesn't know, which are sent as they are: to whoever reads
// the answer that is the same.
func setItems(to proto.Message, items []listItem) {
	size := 0
	for _, i := range items {
		size += len(i)
	}
	all := make([]byte, 0, size)
	for _, i := range items {
		all = append(all, i...)
	}
	to.ProtoReflect().SetUnknown(all)
}
