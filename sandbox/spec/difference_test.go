package spec

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
)

// TestDifferenceSeesEveryField changes each field, and looks whether that is told, under a name of its own.
func TestDifferenceSeesEveryField(t *testing.T) {
	told := map[string]bool{}
	tell := func(field string, names []string) {
		if len(names) != 1 {
			t.Errorf("a change of %s is told as %v", field, names)
			return
		}
		if told[names[0]] {
			t.Errorf("%s is told twice", names[0])
		}
		told[names[0]] = true
	}
	for i := range reflect.TypeFor[Pod]().NumField() {
		var a, b Pod
		change(reflect.ValueOf(&b).Elem().Field(i))
		tell("Pod."+reflect.TypeFor[Pod]().Field(i).Name, a.Difference(&b))
	}
	clear(told)
	for i := range reflect.TypeFor[Container]().NumField() {
		var a, b Container
		change(reflect.ValueOf(&b).Elem().Field(i))
		tell("Container."+reflect.TypeFor[Container]().Field(i).Name, a.Difference(&b))
	}
}

// change makes a value another than zero, in the first of its fields that can be.
func change(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(7)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		change(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		change(v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key := reflect.New(v.Type().Key()).Elem()
		change(key)
		v.SetMapIndex(key, reflect.Zero(v.Type().Elem()))
	case reflect.Struct:
		change(v.Field(0))
	}
}

// What kubelet makes anew when it asks again for the same container, and what a record loses.
func TestDifferenceOfARetry(t *testing.T) {
	first := &Container{
		Envs:        []Env{{Key: "A", Value: []byte("1")}, {Key: "B", Value: []byte("2")}},
		Mounts:      []Mount{{ContainerPath: "/data", HostPath: "/srv"}, {ContainerPath: "/dev/termination-log", HostPath: "/var/lib/kubelet/pods/u/containers/c/0a1b2c3d"}},
		Annotations: map[string]string{terminationMessage: "/dev/termination-log"},
		Labels:      map[string]string{}, Command: []string{},
	}
	text, err := json.Marshal(first)
	if err != nil {
		t.Fatal(err)
	}
	var again Container
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(again.Envs)
	again.Mounts[1].HostPath = "/var/lib/kubelet/pods/u/containers/c/ffffffff"
	if d := first.Difference(&again); d != nil {
		t.Errorf("a retry differs in %v", d)
	}
	again.Mounts[0].HostPath = "/etc"
	again.Envs[0].Value = []byte("3")
	if d := first.Difference(&again); !slices.Equal(d, []string{"envs", "mounts"}) {
		t.Errorf("other mounts and envs: %v", d)
	}
}
