package fuzz

import (
	"math"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// source is what a made up message takes its decisions from: bytes, and zeros when they are used up.
type source []byte

func (s *source) next() byte {
	if len(*s) == 0 {
		return 0
	}
	b := (*s)[0]
	*s = (*s)[1:]
	return b
}

// words are what strings are made of: some have a meaning somewhere.
var words = []string{
	"", "a", "$POD", "$CONTAINER", "$IMAGE", "busybox", "/", "/proc/sys", "../..", "root", "0", "-1", "65534", "nobody", "ALL", "CAP_SYS_ADMIN", "NET_RAW",
	"runtime/default", "unconfined", "localhost/x", "kernel.shm_rmid_forced", "net.ipv4.ip_forward", "rwm", "max", "2MB", "memory.max", "berth", "fd00::1", "10.99.0.0/16",
	"registry.k8s.io/none:latest", "UPPER/case", "sha256:0000000000000000000000000000000000000000000000000000000000000000", "\u0000", "é\u202e", "x\ny",
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
}

var numbers = []int64{0, 1, -1, 2, 100, 1000, 65535, 65536, 1 << 20, math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64}

const deepest = 8

// invent fills a message: each field, or leaves it out.
func (s *source) invent(m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if s.next()%3 == 0 || depth > deepest {
			continue
		}
		s.set(m, fd, depth)
	}
}

// set makes up the value of a field.
func (s *source) set(m protoreflect.Message, fd protoreflect.FieldDescriptor, depth int) {
	switch {
	case fd.IsMap():
		m.Mutable(fd).Map().Set(s.scalar(fd.MapKey()).MapKey(), s.scalar(fd.MapValue()))
	case fd.IsList():
		list := m.Mutable(fd).List()
		for range s.next() % 4 {
			if fd.Kind() == protoreflect.MessageKind {
				s.invent(list.AppendMutable().Message(), depth+1)
			} else {
				list.Append(s.scalar(fd))
			}
		}
	case fd.Kind() == protoreflect.MessageKind:
		s.invent(m.Mutable(fd).Message(), depth+1)
	default:
		m.Set(fd, s.scalar(fd))
	}
}

// change changes one field somewhere in a message: sets it, fills it anew, or clears it.
func (s *source) change(m protoreflect.Message) {
	for {
		fields := m.Descriptor().Fields()
		if fields.Len() == 0 {
			return
		}
		fd := fields.Get(int(s.next()) % fields.Len())
		if fd.Kind() != protoreflect.MessageKind || fd.IsMap() || fd.IsList() || len(*s) == 0 {
			s.set(m, fd, 0)
			return
		}
		if s.next()%8 == 0 {
			m.Clear(fd)
			return
		}
		m = m.Mutable(fd).Message()
	}
}

func (s *source) scalar(fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(s.next()%2 == 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(s.next()%7) - 1)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(words[int(s.next())%len(words)])
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{s.next(), 0xff, s.next()})
	}
	n := numbers[int(s.next())%len(numbers)]
	switch fd.Kind() {
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(n))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(n))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(uint64(n))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(n))
	}
	return protoreflect.ValueOfInt64(n)
}
