package cri

import (
	"reflect"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// fillMessage sets every field of a message, and of those below it: one element in
// each list and map, no zero but in enums.
func fillMessage(m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fillField(m, fields.Get(i))
	}
}

func fillField(m protoreflect.Message, fd protoreflect.FieldDescriptor) {
	switch {
	case fd.IsMap():
		m.Mutable(fd).Map().Set(protoreflect.ValueOfString("key").MapKey(), scalar(fd.MapValue()))
	case fd.IsList() && fd.Kind() == protoreflect.MessageKind:
		fillMessage(m.Mutable(fd).List().AppendMutable().Message())
	case fd.IsList():
		m.Mutable(fd).List().Append(scalar(fd))
	case fd.Kind() == protoreflect.MessageKind:
		fillMessage(m.Mutable(fd).Message())
	default:
		m.Set(fd, scalar(fd))
	}
}

func scalar(fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(11)
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(12)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(13)
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(14)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString("text")
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte("bytes"))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(0)
	}
	panic("a kind that CRI didn't have: " + fd.Kind().String())
}

// leaf is one field of a message, at any depth.
type leaf struct {
	name string // "Message.field"
	path string // from the outermost message
	// change makes another value of it in m, a copy of the message.
	change func(m protoreflect.Message)
}

// leaves lists the fields of a filled message, whose messages, lists and maps
// themselves count too. skip leaves a field, and what is below it, out.
func leaves(m protoreflect.Message, skip func(name string) bool) []leaf {
	return walk(m, "", skip, func(top protoreflect.Message) protoreflect.Message { return top })
}

func walk(m protoreflect.Message, path string, skip func(string) bool, find func(protoreflect.Message) protoreflect.Message) []leaf {
	var out []leaf
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		l := leaf{
			name:   string(m.Descriptor().Name()) + "." + string(fd.Name()),
			path:   path + "." + string(fd.Name()),
			change: func(top protoreflect.Message) { changeField(find(top), fd) },
		}
		if skip(l.name) {
			continue
		}
		out = append(out, l)
		if below := messageBelow(fd); below != nil {
			next := func(top protoreflect.Message) protoreflect.Message { return below(find(top)) }
			out = append(out, walk(below(m), l.path, skip, next)...)
		}
	}
	return out
}

// messageBelow returns how to get from a message to the one that its field holds.
func messageBelow(fd protoreflect.FieldDescriptor) func(protoreflect.Message) protoreflect.Message {
	switch {
	case fd.IsMap() || fd.Kind() != protoreflect.MessageKind:
		return nil
	case fd.IsList():
		return func(m protoreflect.Message) protoreflect.Message { return m.Mutable(fd).List().Get(0).Message() }
	}
	return func(m protoreflect.Message) protoreflect.Message { return m.Mutable(fd).Message() }
}

func changeField(m protoreflect.Message, fd protoreflect.FieldDescriptor) {
	if fd.Kind() == protoreflect.EnumKind && !fd.IsList() {
		m.Set(fd, protoreflect.ValueOfEnum(1-m.Get(fd).Enum()))
		return
	}
	m.Clear(fd)
}

// changed returns a copy of a message with one leaf changed.
func changed[M proto.Message](in M, l leaf) M {
	out := proto.Clone(in).(M)
	l.change(out.ProtoReflect())
	return out
}

// populated notes the names of all fields that a message has set.
func populated(m protoreflect.Message, into map[string]bool) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		into[string(m.Descriptor().Name())+"."+string(fd.Name())] = true
		switch {
		case fd.IsMap() || fd.Kind() != protoreflect.MessageKind:
		case fd.IsList():
			for i := range v.List().Len() {
				populated(v.List().Get(i).Message(), into)
			}
		default:
			populated(v.Message(), into)
		}
		return true
	})
}

// allFields notes the names of all fields that a message can have.
func allFields(d protoreflect.MessageDescriptor, skip func(string) bool, into map[string]bool) {
	for i := range d.Fields().Len() {
		fd := d.Fields().Get(i)
		name := string(d.Name()) + "." + string(fd.Name())
		if into[name] || skip(name) {
			continue
		}
		into[name] = true
		if fd.Kind() == protoreflect.MessageKind && !fd.IsMap() {
			allFields(fd.Message(), skip, into)
		}
	}
}

// fillStruct sets every field of one of the domain's structs, as fillMessage does.
func fillStruct(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillStruct(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fillStruct(v.Index(0))
		fillStruct(v.Index(1))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fillStruct(key)
		fillStruct(value)
		v.SetMapIndex(key, value)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1700000000, 5)))
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fillStruct(v.Field(i))
			}
		}
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(15) // also SIGTERM
	case reflect.Float64:
		v.SetFloat(17.5)
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(16)
	}
}
