package cdi

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/sandbox/spec"
)

func TestNames(t *testing.T) {
	got, err := Names(&spec.Container{
		CDIDevices:  []string{"a.example/x=1", "a.example/x=2"},
		Annotations: map[string]string{"cdi.k8s.io/plugin": "a.example/x=2,b.example/y=0", "team": "no device"},
	})
	if want := []string{"a.example/x=1", "a.example/x=2", "b.example/y=0"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if _, err := Names(&spec.Container{Annotations: map[string]string{"cdi.k8s.io/plugin": "nothing"}}); err == nil || !strings.Contains(err.Error(), "cdi.k8s.io/plugin") {
		t.Errorf("an annotation that names no device: %v", err)
	}
}

// write puts files with these contents into a new directory.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const vendor = `{"cdiVersion": "1.1.0", "kind": "a.example/x",
	"containerEdits": {"env": ["ALL=yes"], "hooks": [{"hookName": "createContainer", "path": "/bin/hook", "args": ["hook", "x"], "timeout": 3}]},
	"devices": [
		{"name": "1", "containerEdits": {"env": ["ONE=1"], "deviceNodes": [{"path": "/dev/one", "hostPath": "/dev/null", "permissions": "r"}],
			"mounts": [{"hostPath": "/usr/lib", "containerPath": "/opt/lib", "options": ["ro", "rbind"]}], "additionalGids": [44]}},
		{"name": "2", "containerEdits": {"env": ["TWO=2"]}},
		{"name": "gone", "containerEdits": {"deviceNodes": [{"path": "/dev/no-such-device"}]}},
		{"name": "net", "containerEdits": {"netDevices": [{"hostInterfaceName": "eth9", "name": "eth0"}]}},
		{"name": "rdt", "containerEdits": {"intelRdt": {"closID": "gold"}}}]}`

func TestResolve(t *testing.T) {
	dir := write(t, map[string]string{"a.json": vendor})
	over := write(t, map[string]string{"b.yaml": "cdiVersion: 0.7.0\nkind: a.example/x\ndevices:\n- name: \"2\"\n  containerEdits:\n    env: [TWO=over]\n"})
	got, err := Resolve([]string{dir, over}, []string{"a.example/x=1", "a.example/x=2"}, false)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(got)
	want := `{"ociVersion":"","process":{"user":{"uid":0,"gid":0,"additionalGids":[44]},"env":["ALL=yes","ONE=1","TWO=over"],"cwd":""},` +
		`"mounts":[{"destination":"/opt/lib","source":"/usr/lib","options":["ro","rbind"]}],` +
		`"hooks":{"createContainer":[{"path":"/bin/hook","args":["hook","x"],"timeout":3}]},` +
		`"linux":{"resources":{"devices":[{"allow":true,"type":"c","major":1,"minor":3,"access":"r"}]},` +
		`"devices":[{"path":"/dev/one","type":"c","major":1,"minor":3,"fileMode":438}]}}`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	inside, err := Resolve([]string{dir}, []string{"a.example/x=1"}, true)
	if err != nil || inside.Linux.Namespaces != nil || !slices.Contains(inside.Mounts[0].Options, "ridmap") {
		t.Errorf("in a user namespace: %+v, %v", inside, err)
	}
}

func TestResolveBad(t *testing.T) {
	dir := write(t, map[string]string{"a.json": vendor, "broken.json": "{"})
	for name, words := range map[string][]string{
		"a.example/x=7":    {"a.example/x=7", dir, "broken.json"},
		"no-name":          {"no-name"},
		"a.example/x=gone": {"/dev/no-such-device"},
		"a.example/x=net":  {"network devices"},
		"a.example/x=rdt":  {"intelRdt"},
	} {
		_, err := Resolve([]string{dir, "/no/such/directory"}, []string{name}, false)
		if errors.Is(err, ErrUnknown) != (name == "a.example/x=7" || name == "no-name") {
			t.Errorf("%s: %v", name, err)
		}
		for _, w := range words {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q is not in the error %v", name, w, err)
			}
		}
	}
}
