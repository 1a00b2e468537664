package cri

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/imagestore"
	"github.com/berth-runtime/berth/sandbox"
	"github.com/berth-runtime/berth/sandbox/spec"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Every exported sentinel of the rooms behind the door has a row.
func TestEverySentinelHasARow(t *testing.T) {
	rows := map[string]bool{}
	for _, o := range outcomes {
		rows[o.name] = true
	}
	for _, dir := range []string{"../sandbox", "../sandbox/spec", "../imagestore"} {
		names := sentinels(t, dir)
		if len(names) == 0 {
			t.Errorf("%s: no sentinel found, the test looks wrong", dir)
		}
		for _, name := range names {
			if !rows[name] {
				t.Errorf("%s has no row in outcomes", name)
			}
		}
	}
}

// sentinels lists the exported variables named Err… of the package in dir.
func sentinels(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, source, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			vars, ok := decl.(*ast.GenDecl)
			if !ok || vars.Tok != token.VAR {
				continue
			}
			for _, s := range vars.Specs {
				for _, name := range s.(*ast.ValueSpec).Names {
					if strings.HasPrefix(name.Name, "Err") {
						out = append(out, file.Name.Name+"."+name.Name)
					}
				}
			}
		}
	}
	return out
}

func TestToStatus(t *testing.T) {
	for _, c := range []struct {
		err  error
		code codes.Code
		text string
	}{
		{fmt.Errorf("pod x: %w", sandbox.ErrNotFound), codes.NotFound, "pod x: " + sandbox.ErrNotFound.Error()},
		{&spec.FieldError{Field: "hostname", Value: "a b", Rule: "must be a name"}, codes.InvalidArgument, `hostname "a b": must be a name`},
		{sandbox.ErrTimeout, codes.DeadlineExceeded, sandbox.ErrTimeout.Error()},
		{context.Canceled, codes.Canceled, "context canceled"},
		{fmt.Errorf("pull: %w", context.DeadlineExceeded), codes.DeadlineExceeded, "pull: context deadline exceeded"},
		// kubelet compares the start of the message, and its client shows it bare for Unknown only.
		{fmt.Errorf("pull x: %w", imagestore.ErrUnavailable), codes.Unknown, "RegistryUnavailable: pull x: " + imagestore.ErrUnavailable.Error()},
		{fmt.Errorf("pull x: %w", imagestore.ErrNotFound), codes.NotFound, "pull x: " + imagestore.ErrNotFound.Error()},
		// A file that is missing isn't a container that is gone.
		{fmt.Errorf("open: %w", os.ErrNotExist), codes.Unknown, "open: file does not exist"},
		{errors.New("not found"), codes.Unknown, "not found"},
		// Joined errors are one line, with the prefix once.
		{errors.Join(imagestore.ErrUnavailable, errors.New("b")), codes.Unknown, "RegistryUnavailable: " + imagestore.ErrUnavailable.Error() + "; b"},
		{errors.Join(errors.New("a"), errors.New("b")), codes.Unknown, "a; b"},
		{status.Error(codes.Unimplemented, "later"), codes.Unimplemented, "later"},
	} {
		got := status.Convert(toStatus(c.err))
		if got.Code() != c.code || got.Message() != c.text {
			t.Errorf("%v: %s %q, want %s %q", c.err, got.Code(), got.Message(), c.code, c.text)
		}
	}
	if toStatus(nil) != nil {
		t.Error("no error got a status")
	}
}
