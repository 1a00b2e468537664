package plugin

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
)

// Keyed is a plugin that says which keys its configuration can have.
type Keyed interface {
	// Keys returns a struct whose fields' tags are the keys, as encoding/json reads them.
	Keys() any
}

// common are the keys that a configuration can have for every plugin (CNI specification, section 1; CONVENTIONS.md).
var common = []string{
	"cniVersion", "name", "type", "capabilities", "ipam", "dns", "args", "runtimeConfig", "prevResult", "disableCheck", "disableGC",
	"loadOnlyInlinedPlugins",
}

// UnknownKeys returns the keys of a configuration that neither the plugin nor, below ipam, its IPAM plugin knows, each with the keys
// above it. What runtimes fill in (args, runtimeConfig) is not looked at. ipam is nil when the IPAM plugin is not one of ours.
func UnknownKeys(config []byte, p, ipam Keyed) []string {
	top := map[string]json.RawMessage{}
	if json.Unmarshal(config, &top) != nil {
		return nil
	}
	var out []string
	known := reflect.TypeOf(p.Keys())
	for key, value := range top {
		if matches(common, key) || strings.HasPrefix(key, "cni.dev/") {
			continue
		}
		out = append(out, unknown(key, value, known)...)
	}
	if raw, ok := top["ipam"]; ok && ipam != nil {
		inside := map[string]json.RawMessage{}
		field, _ := fieldFor(reflect.TypeOf(ipam.Keys()), "ipam")
		if json.Unmarshal(raw, &inside) == nil && field != nil {
			delete(inside, "type")
			for key, value := range inside {
				out = append(out, prefixed("ipam.", unknown(key, value, field))...)
			}
		}
	}
	slices.Sort(out)
	return out
}

// unknown holds a key, and the keys of its value, against a struct.
func unknown(key string, value json.RawMessage, in reflect.Type) []string {
	kind, ok := fieldFor(in, key)
	if !ok {
		return []string{key}
	}
	return prefixed(key+".", below(value, kind))
}

// below are the unknown keys of a value of a type.
func below(value json.RawMessage, kind reflect.Type) []string {
	if kind == nil {
		return nil
	}
	var out []string
	switch {
	case kind.Kind() == reflect.Slice && kind.Elem().Kind() != reflect.Uint8:
		var list []json.RawMessage
		if json.Unmarshal(value, &list) == nil {
			for _, v := range list {
				out = append(out, below(v, plainType(kind.Elem()))...)
			}
		}
	case kind.Kind() == reflect.Struct && !reflect.PointerTo(kind).Implements(unmarshaler):
		inside := map[string]json.RawMessage{}
		if json.Unmarshal(value, &inside) == nil {
			for key, v := range inside {
				out = append(out, unknown(key, v, kind)...)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

func plainType(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// fieldFor finds the type of what a key is read into.
func fieldFor(in reflect.Type, key string) (reflect.Type, bool) {
	in = plainType(in)
	if in.Kind() != reflect.Struct {
		return nil, false
	}
	for f := range in.Fields() {
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case tag == "-":
		case f.Anonymous && tag == "":
			if t, ok := fieldFor(f.Type, key); ok {
				return t, true
			}
		case tag != "" && strings.EqualFold(tag, key):
			return plainType(f.Type), true
		}
	}
	return nil, false
}

func matches(list []string, key string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, key) })
}

func prefixed(prefix string, list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = prefix + s
	}
	return out
}
