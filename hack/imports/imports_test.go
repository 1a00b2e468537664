package imports

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

func tree(t *testing.T) []Package {
	t.Helper()
	packages, err := List(root, "./...")
	if err != nil {
		t.Fatal(err)
	}
	if len(packages) < 10 {
		t.Fatalf("only %d packages found", len(packages))
	}
	return packages
}

func TestTreeKeepsItsWalls(t *testing.T) {
	packages := tree(t)
	for _, fault := range Check(packages, Edges, Libraries) {
		t.Error(fault)
	}
	seen := map[[2]string]bool{}
	for _, e := range Edges {
		if seen[[2]string{e.From, e.To}] {
			t.Errorf("the edge from %s to %s stands twice", e.From, e.To)
		}
		seen[[2]string{e.From, e.To}] = true
	}
	for _, e := range Unused(packages, Edges) {
		t.Errorf("nothing needs the edge from %s to %s any more: take it out", e.From, e.To)
	}
}

func TestKeeperStaysSmall(t *testing.T) {
	linked, err := Linked(root, "./cmd/berth-keeper", NotInKeeper)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range linked {
		t.Errorf("berth-keeper is linked with %s", path)
	}
}

// TestCodesInOneFile holds gRPC's codes to the one table of errors.
func TestCodesInOneFile(t *testing.T) {
	for _, p := range tree(t) {
		if r := Room(p.ImportPath); r == "test" || r == "hack" || !slices.Contains(p.Imports, "google.golang.org/grpc/codes") {
			continue
		}
		for _, name := range p.GoFiles {
			path := filepath.Join(p.Dir, name)
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range f.Imports {
				if i.Path.Value == strconv.Quote("google.golang.org/grpc/codes") && !strings.HasSuffix(path, "/"+codesFile) {
					t.Errorf("%s imports grpc/codes, which only %s may", path, codesFile)
				}
			}
		}
	}
}

func TestCheck(t *testing.T) {
	pkg := func(path string, imports ...string) []Package {
		return []Package{{ImportPath: Module + "/" + path, Imports: imports}}
	}
	for _, c := range []struct {
		name     string
		packages []Package
		wrong    bool
	}{
		{"along an edge", pkg("cri", Module+"/sandbox"), false},
		{"against it", pkg("sandbox", Module+"/cri"), true},
		{"within a room", pkg("imagestore/layer", Module+"/imagestore/manifest"), false},
		{"into a room inside a room", pkg("oci/program", Module+"/oci"), true},
		{"between the three", pkg("cni", Module+"/imagestore"), true},
		{"two floors down", pkg("cri", Module+"/oci"), true},
		{"the product to its tests", pkg("cri", Module+"/test/images"), true},
		{"a library where it belongs", pkg("cri", "k8s.io/cri-api/pkg/apis/runtime/v1"), false},
		{"a library elsewhere", pkg("sandbox", "k8s.io/cri-api/pkg/apis/runtime/v1"), true},
		{"a library with a major version", pkg("cni", "github.com/containerd/containerd/v2/core/images"), true},
		{"a library in the tests", pkg("test/images", "github.com/google/go-containerregistry/pkg/v1"), false},
		{"of no room", pkg("utils"), true},
		{"anybody to the standard library", pkg("sandbox/spec", "strings"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if faults := Check(c.packages, Edges, Libraries); (len(faults) > 0) != c.wrong {
				t.Errorf("faults %q, wanted some: %v", faults, c.wrong)
			}
		})
	}
}

func TestUnused(t *testing.T) {
	packages := []Package{{ImportPath: Module + "/cri", Imports: []string{Module + "/sandbox"}}}
	edges := []Edge{{"cri", "sandbox", ""}, {"cri", "imagestore", ""}}
	if got := Unused(packages, edges); len(got) != 1 || got[0].To != "imagestore" {
		t.Errorf("got %v", got)
	}
}
