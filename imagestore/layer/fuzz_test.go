package layer

import (
	"archive/tar"
	"bytes"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
)

// script is bytes that say what to do, of which each decision takes one.
type script []byte

// choose gives one of n; 0 when the script has ended.
func (s *script) choose(n int) int {
	if len(*s) == 0 {
		return 0
	}
	b := (*s)[0]
	*s = (*s)[1:]
	return int(b) % n
}

// name is made of few components, so that entries meet.
func (s *script) name() string {
	components := []string{"a", "b", "c", "a", "b", ".", "..", ".wh.a"}
	var names []string
	for range 1 + s.choose(4) {
		names = append(names, components[s.choose(len(components))])
	}
	return path.Join(names...)
}

// target is where a symlink leads.
func (s *script) target() string {
	return []string{"", "/", "../", "./", "../../"}[s.choose(5)] + s.name()
}

// entry is one of a tar.
func (s *script) entry() entry {
	e := entry{Header: tar.Header{Name: s.name(), Mode: int64(s.choose(256)) * 16, Uid: s.choose(3), ModTime: time.Unix(int64(s.choose(3)), 0), Format: tar.FormatPAX}}
	switch s.choose(12) {
	case 0, 1, 2:
		e.content = strings.Repeat("x", s.choose(4)*400)
	case 3, 4:
		e.Typeflag = tar.TypeDir
	case 5, 6:
		e.Typeflag, e.Linkname = tar.TypeSymlink, s.target()
	case 7:
		e.Typeflag, e.Linkname = tar.TypeLink, s.name()
	case 8:
		e.Name = path.Dir(e.Name) + "/.wh." + path.Base(e.Name)
	case 9:
		e.Name += "/" + opaqueMarker
	case 10:
		e.Typeflag, e.Devminor = tar.TypeChar, int64(s.choose(2))
	case 11:
		e.Typeflag = tar.TypeFifo
	}
	if s.choose(5) == 4 {
		e.PAXRecords = map[string]string{paxXattr + []string{"user.", "trusted.", "security.", opaqueXattr}[s.choose(4)] + "n": strings.Repeat("v", s.choose(9))}
	}
	return e
}

// FuzzPack: what a script makes, or a tar as it is, means the same packed and unpacked.
func FuzzPack(f *testing.F) {
	if os.Geteuid() != 0 {
		f.Skip("needs root: layers have owners, devices and trusted.* attributes")
	}
	for _, raw := range [][]byte{
		nil,
		make([]byte, 1024),
		pack(f, folder("a/", 0o755), reg("a/b", "x"), symlink("c", "a"), reg("c/d", "y"), hardlink("e", "a/b")),
		pack(f, reg(".wh.a", ""), reg("b/.wh..wh..opq", ""), symlink("l", "../../.."), reg("l/x/y", "")),
		pack(f, reg("d/f", "1"), hardlink("d", "d/f")),
		pack(f, folder("d", 0o700), symlink("l", "d"), reg("l/f", "1"), reg("d", "2"), reg("l/f", "3")),
		pack(f, reg("a/.wh.b", ""), hardlink("c", "a/b"), folder("c/", 0o755), reg("a/b/c", "")),
		pack(f, entry{tar.Header{Name: "white", Typeflag: tar.TypeChar}, ""}, reg("white/f", "")),
		append(pack(f, reg("a", "x")), "what follows"...),
		pack(f, reg("a", strings.Repeat("x", 700)))[:512+700],
	} {
		f.Add(true, raw)
	}
	f.Add(false, []byte("any text is a tar of sorts, for instance this one, of which nobody knows what is in it"))
	f.Fuzz(func(t *testing.T, raw bool, data []byte) {
		if !raw {
			s := script(data)
			var entries []entry
			for len(s) > 0 && len(entries) < 64 {
				entries = append(entries, s.entry())
			}
			data = packLeniently(entries)
			unpackTar(t, packLeniently(sound(t, entries)))
		}
		unpackTar(t, data) // which holds the two against each other
	})
}

// sound leaves out each entry that would be the end of the others.
func sound(t *testing.T, entries []entry) []entry {
	for {
		x := newIndexer(NewBudget(1<<30, 1<<20, 0), newRoom(1<<30), func() {})
		err := x.index(bytes.NewReader(packLeniently(entries)), func() int64 { return 0 })
		if err == nil {
			return entries
		}
		if int(x.entries) > len(entries) || x.entries == 0 {
			t.Fatal(err)
		}
		entries = slices.Delete(slices.Clone(entries), int(x.entries)-1, int(x.entries))
	}
}

// packLeniently leaves out what a tar can't say.
func packLeniently(entries []entry) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		hdr := e.Header
		hdr.Size = int64(len(e.content))
		if w.WriteHeader(&hdr) == nil {
			w.Write([]byte(e.content))
		}
	}
	w.Close()
	return buf.Bytes()
}
