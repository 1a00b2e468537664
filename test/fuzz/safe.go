package fuzz

import (
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// place is what requests may touch.
type place struct {
	dir    string // for logs and volumes
	parent string // of cgroups
	subnet string // of pods
}

// paths are those fields whose value is a path of the host: they lead nowhere but below the place's directory.
var paths = []string{"log_directory", "host_path", "location", "output_path", "checkpoint_path", "localhost_ref"}

// commands are all that may run: they do no harm also as root of a privileged container.
var commands = [][]string{{"true"}, {"sleep", "0.01"}, {"sleep", "100"}, {"/none"}, {"sh", "-c", "echo out; echo err >&2; exit 3"}}

// tame bounds what a request does to the node, whatever is in it. Everything else stays as it is.
func (p place) tame(m proto.Message) {
	walk(m.ProtoReflect(), func(m protoreflect.Message, fd protoreflect.FieldDescriptor) {
		name := string(fd.Name())
		switch {
		case slices.Contains(paths, name):
			m.Set(fd, protoreflect.ValueOfString(p.below(m.Get(fd).String())))
		case name == "log_path":
			m.Set(fd, protoreflect.ValueOfString(filepath.Base("/"+m.Get(fd).String())))
		case name == "cgroup_parent":
			if at := m.Get(fd).String(); !strings.HasPrefix(at, p.parent) || strings.Contains(at, "..") {
				m.Set(fd, protoreflect.ValueOfString(p.parent+"/odd"))
			}
		case name == "command", name == "cmd":
			line := commands[m.Get(fd).List().Len()%len(commands)]
			list := m.Mutable(fd).List()
			list.Truncate(0)
			for _, word := range line {
				list.Append(protoreflect.ValueOfString(word))
			}
		case name == "args":
			m.Clear(fd)
		case name == "host_port": // none of the node's own
			m.Set(fd, protoreflect.ValueOfInt32(m.Get(fd).Interface().(int32)%2*40001))
		case name == "pod_cidr": // pods go on to need the network
			if at := m.Get(fd).String(); strings.HasPrefix(at, "10.") || strings.Contains(at, ":") {
				m.Set(fd, protoreflect.ValueOfString(p.subnet))
			}
		case name == "timeout": // seconds, of a stop or an exec
			m.Set(fd, protoreflect.ValueOfInt64(m.Get(fd).Int()%2))
		}
	})
}

// below makes a path one of the place's. An empty one stays.
func (p place) below(path string) string {
	if path == "" {
		return ""
	}
	return filepath.Join(p.dir, filepath.Clean("/"+strings.ReplaceAll(path, "\x00", "")))
}

// walk calls do for each field of a message that is set, and of those below it.
func walk(m protoreflect.Message, do func(protoreflect.Message, protoreflect.FieldDescriptor)) {
	var set []protoreflect.FieldDescriptor
	m.Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		set = append(set, fd)
		return true
	})
	for _, fd := range set {
		do(m, fd)
		switch {
		case fd.IsMap() || fd.Kind() != protoreflect.MessageKind:
		case fd.IsList():
			for i := range m.Get(fd).List().Len() {
				walk(m.Get(fd).List().Get(i).Message(), do)
			}
		case m.Has(fd):
			walk(m.Get(fd).Message(), do)
		}
	}
}
