package imports

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
)

// Package is what go list says of one.
type Package struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
}

// List returns the packages that the patterns name, with go list run in dir.
func List(dir string, args ...string) ([]Package, error) {
	c := exec.Command("go", append([]string{"list", "-json=ImportPath,Dir,GoFiles,Imports"}, args...)...)
	var stderr bytes.Buffer
	c.Dir, c.Stderr = dir, &stderr
	text, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("list packages: %w\n%s", err, stderr.String())
	}
	var out []Package
	for d := json.NewDecoder(bytes.NewReader(text)); ; {
		var p Package
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("decode packages: %w", err)
		}
		out = append(out, p)
	}
}

// Room returns the room of a package of the module, "" for any other package.
func Room(path string) string {
	below, ok := strings.CutPrefix(path, Module+"/")
	if !ok {
		return ""
	}
	best := ""
	for _, r := range rooms {
		if (below == r || strings.HasPrefix(below, r+"/")) && len(r) > len(best) {
			best = r
		}
	}
	return best
}

// Check returns a line for every import that nothing allows.
func Check(packages []Package, edges []Edge, libraries []Library) []string {
	var faults []string
	for _, p := range packages {
		from := Room(p.ImportPath)
		if from == "" {
			faults = append(faults, p.ImportPath+" is in no room: enter it in rooms")
			continue
		}
		for _, path := range p.Imports {
			if fault := judge(from, path, edges, libraries); fault != "" {
				faults = append(faults, p.ImportPath+" imports "+path+": "+fault)
			}
		}
	}
	return faults
}

// judge says what is wrong with an import from a room, "" when nothing is.
func judge(from, path string, edges []Edge, libraries []Library) string {
	if to := Room(path); to != "" {
		switch {
		case to == from, from == "hack" && to == "test":
			return ""
		case !slices.ContainsFunc(edges, func(e Edge) bool { return e.From == from && e.To == to }):
			return "no edge leads from " + from + " to " + to
		}
		return ""
	}
	if from == "test" || from == "hack" {
		return "" // what tests use is no part of the product
	}
	for _, l := range libraries {
		if within(path, l.Path) && !slices.Contains(l.Rooms, from) {
			return "not in " + from + ": " + l.Why
		}
	}
	return ""
}

// within says whether path is that of a library or below it, in any major version.
func within(path, library string) bool {
	return path == library || strings.HasPrefix(path, library+"/")
}

// Unused returns the edges that no import needs.
func Unused(packages []Package, edges []Edge) []Edge {
	used := map[[2]string]bool{}
	for _, p := range packages {
		for _, path := range p.Imports {
			used[[2]string{Room(p.ImportPath), Room(path)}] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(edges), func(e Edge) bool { return used[[2]string{e.From, e.To}] })
}

// Linked returns which of paths the named package is linked with.
func Linked(dir, pkg string, paths []string) ([]string, error) {
	deps, err := List(dir, "-deps", pkg)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, d := range deps {
		if slices.ContainsFunc(paths, func(p string) bool {
			return within(d.ImportPath, p) || strings.HasSuffix(p, "/") && strings.HasPrefix(d.ImportPath, p)
		}) {
			out = append(out, d.ImportPath)
		}
	}
	return out, nil
}
