package images

import (
	"archive/tar"
	"bytes"
	"fmt"
	"strings"
	"time"
)

// epoch is the time of every file and image, so that builds are reproducible.
var epoch = time.Date(2026, time.January, 2, 3, 4, 5, 0, time.UTC)

// Tree is a layer in the making: entries of a tar archive, in order. Its methods
// return the tree, so that one can be written as one expression.
type Tree struct {
	entries []entry
}

type entry struct {
	header tar.Header
	body   []byte
}

// Dir adds a directory.
func (t *Tree) Dir(name string, mode int64) *Tree {
	return t.Entry(tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimSuffix(name, "/") + "/", Mode: mode}, nil)
}

// File adds a regular file.
func (t *Tree) File(name string, mode int64, body []byte) *Tree {
	return t.Entry(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}, body)
}

// Text adds a regular file, readable by all.
func (t *Tree) Text(name, body string) *Tree { return t.File(name, 0o644, []byte(body)) }

// Link adds a hard link to target, the name of an earlier entry.
func (t *Tree) Link(name, target string) *Tree {
	return t.Entry(tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o755}, nil)
}

// Symlink adds a symbolic link.
func (t *Tree) Symlink(name, target string) *Tree {
	return t.Entry(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, nil)
}

// Entry adds any entry. Size and, when unset, the time are filled in.
func (t *Tree) Entry(h tar.Header, body []byte) *Tree {
	if h.ModTime.IsZero() {
		h.ModTime = epoch
	}
	h.Size = int64(len(body))
	t.entries = append(t.entries, entry{h, body})
	return t
}

// Tar returns the archive.
func (t *Tree) Tar() ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range t.entries {
		if err := w.WriteHeader(&e.header); err != nil {
			return nil, fmt.Errorf("write entry %s: %w", e.header.Name, err)
		}
		if _, err := w.Write(e.body); err != nil {
			return nil, fmt.Errorf("write content of %s: %w", e.header.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("end archive: %w", err)
	}
	return out.Bytes(), nil
}
