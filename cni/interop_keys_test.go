package cni

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/cni/plugin"
)

// notKeys are tags of the reference plugins' sources that no configuration has, and where they are from.
var notKeys = map[string]string{
	"-":          "fields that are not read",
	"cniVersion": "of every configuration", "name": "of every configuration", "type": "of every configuration",
	"ip": "static's CNI_ARGS",
}

// TestReferenceKeys: a key that a reference plugin reads is one that berth's knows, so that none is passed over in silence.
func TestReferenceKeys(t *testing.T) {
	referencePlugins(t)
	download := exec.Command("go", "mod", "download", "-json", pluginsModule+"@v1.9.1")
	download.Dir = t.TempDir()
	download.Env = append(os.Environ(), "GOFLAGS=")
	out, err := download.Output()
	if err != nil {
		t.Fatal(err)
	}
	module := struct{ Dir string }{}
	if err := json.Unmarshal(out, &module); err != nil {
		t.Fatal(err)
	}
	for name, p := range (&fabric{}).plugins() {
		folders, err := filepath.Glob(filepath.Join(module.Dir, "plugins", "*", name))
		if err != nil || len(folders) != 1 {
			t.Fatalf("plugin %s: %v, %v", name, folders, err)
		}
		theirs := sourceKeys(t, folders[0])
		ours := map[string]bool{}
		addKeys(reflect.TypeOf(p.(plugin.Keyed).Keys()), ours)
		for _, key := range theirs {
			if _, not := notKeys[key]; !not && !ours[key] {
				t.Errorf("plugin %s does not know %q", name, key)
			}
		}
		if name == "bridge" && !slices.Contains(theirs, "hairpinMode") {
			t.Errorf("what is read of the sources is %q", theirs)
		}
	}
}

// sourceKeys are the names in the JSON tags of a package's sources.
func sourceKeys(t *testing.T, dir string) (keys []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			if f, ok := n.(*ast.Field); ok && f.Tag != nil {
				keys = appendKey(keys, reflect.StructTag(strings.Trim(f.Tag.Value, "`")))
			}
			return true
		})
	}
	return keys
}

func appendKey(keys []string, tag reflect.StructTag) []string {
	if name, _, _ := strings.Cut(tag.Get("json"), ","); name != "" {
		keys = append(keys, name)
	}
	return keys
}

// addKeys adds the names in the JSON tags of a type, and of what is in it.
func addKeys(in reflect.Type, to map[string]bool) {
	switch in.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		addKeys(in.Elem(), to)
	case reflect.Struct:
		for i := range in.NumField() {
			for _, name := range appendKey(nil, in.Field(i).Tag) {
				to[name] = true
			}
			addKeys(in.Field(i).Type, to)
		}
	}
}
