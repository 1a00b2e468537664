package imports

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// logKeys are the fields that log events have, so that who searches a node's log knows them all. What an event is
// about else belongs to op: what was being done.
var logKeys = []string{"pod", "container", "image", "netns", "cgroup", "pid", "op", "took", "error", "trace"}

// TestLogKeys holds the literal keys of logrus' WithField and Fields to them.
func TestLogKeys(t *testing.T) {
	found := 0
	for _, p := range tree(t) {
		if r := Room(p.ImportPath); r == "" || r == "test" || r == "hack" || !slices.Contains(p.Imports, "github.com/sirupsen/logrus") {
			continue
		}
		for _, name := range p.GoFiles {
			files := token.NewFileSet()
			f, err := parser.ParseFile(files, filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				for _, key := range keysOf(n) {
					found++
					if text, err := strconv.Unquote(key.Value); err != nil || !slices.Contains(logKeys, text) {
						t.Errorf("%s: log key %s is none of %v", files.Position(key.Pos()), key.Value, logKeys)
					}
				}
				return true
			})
		}
	}
	if found < 50 {
		t.Errorf("only %d keys found: does the test still know how events are logged?", found)
	}
}

// keysOf are the keys of a call of WithField, or of a literal of logrus.Fields.
func keysOf(n ast.Node) (keys []*ast.BasicLit) {
	switch n := n.(type) {
	case *ast.CallExpr:
		if s, ok := n.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "WithField" && len(n.Args) == 2 {
			if key, ok := n.Args[0].(*ast.BasicLit); ok {
				keys = append(keys, key)
			}
		}
	case *ast.CompositeLit:
		if s, ok := n.Type.(*ast.SelectorExpr); ok && s.Sel.Name == "Fields" {
			for _, e := range n.Elts {
				if pair, ok := e.(*ast.KeyValueExpr); ok {
					if key, ok := pair.Key.(*ast.BasicLit); ok {
						keys = append(keys, key)
					}
				}
			}
		}
	}
	return keys
}
