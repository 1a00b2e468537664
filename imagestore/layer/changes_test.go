package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// upper makes an upper directory: names to contents; a name with a slash at its end is a directory.
func upper(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		path := filepath.Join(dir, name)
		make := func() error { return os.WriteFile(path, []byte("of "+name), 0o640) }
		if strings.HasSuffix(name, "/") {
			make = func() error { return os.Mkdir(path, 0o750) }
		}
		if err := make(); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// archived is what a tar holds: type, name, link and content of each entry, a line each.
func archived(t *testing.T, raw []byte) (lines []string) {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(raw)); ; {
		hdr, err := r.Next()
		if err == io.EOF {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%c %s>%s %o %q", hdr.Typeflag, hdr.Name, hdr.Linkname, hdr.Mode, content))
	}
}

func TestRootWriteChanges(t *testing.T) {
	needRoot(t)
	dir := upper(t, "d/", "d/a", "opaque/", "opaque/x", "z")
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		unix.Mknod(at("d/gone"), unix.S_IFCHR, 0), unix.Setxattr(at("opaque"), opaqueXattr, []byte("y"), 0),
		os.Link(at("d/a"), at("d/same")), os.Symlink("/etc/passwd", at("link")), unix.Mkfifo(at("pipe"), 0o600),
		unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))), os.Chmod(at("z"), 0o755|os.ModeSetuid),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		defer unix.Close(socket)
		err = unix.Bind(socket, &unix.SockaddrUnix{Name: at("socket")})
	}
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := WriteChanges(t.Context(), dir, &buf); err != nil {
		t.Fatal(err)
	}
	want := []string{`5 d/> 750 ""`, `0 d/a> 640 "of d/a"`, `0 d/.wh.gone> 0 ""`, `1 d/same>d/a 640 ""`, `2 link>/etc/passwd 777 ""`, `3 null> 644 ""`,
		`5 opaque/> 750 ""`, `0 opaque/.wh..wh..opq> 0 ""`, `0 opaque/x> 640 "of opaque/x"`, `6 pipe> 600 ""`, `0 z> 4755 "of z"`}
	if got := archived(t, buf.Bytes()); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if err := os.WriteFile(at("d/.wh.z"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := WriteChanges(t.Context(), dir, io.Discard); err == nil || !strings.Contains(err.Error(), `"d/.wh.z"`) {
		t.Errorf("a name that means something else: %v", err)
	}
}

// TestRootWriteChangesCapability: what a program of the container may do it may after the way through the archive, by each of its names.
func TestRootWriteChangesCapability(t *testing.T) {
	needRoot(t)
	dir := upper(t, "ping", "plain")
	if err := errors.Join(unix.Setxattr(dir+"/ping", capabilityXattr, []byte(rawCapability), 0), os.Link(dir+"/ping", dir+"/same")); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := WriteChanges(t.Context(), dir, &buf); err != nil {
		t.Fatal(err)
	}
	to, _, err := unpackTar(t, buf.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"ping": rawCapability, "same": rawCapability, "plain": ""} {
		value := make([]byte, 100)
		n, err := unix.Getxattr(filepath.Join(to, name), capabilityXattr, value)
		if want == "" && err != unix.ENODATA || want != "" && (err != nil || string(value[:n]) != want) {
			t.Errorf("%s: %q, %v", name, value[:max(n, 0)], err)
		}
	}
}

// acting is a writer that does something when it is given a text for the first time: what another process does meanwhile.
type acting struct {
	bytes.Buffer
	text string
	act  func()
	done bool
}

func (a *acting) Write(p []byte) (int, error) {
	if !a.done && bytes.Contains(p, []byte(a.text)) {
		a.done = true
		a.act()
	}
	return a.Buffer.Write(p)
}

// TestRootWriteChangesSwapped: a process of the container that swaps names at the right moment doesn't get a file of the host into the archive, nor
// does it keep the archive from being written.
func TestRootWriteChangesSwapped(t *testing.T) {
	needRoot(t)
	host := upper(t, "a", "b", "c/", "c/d")
	for _, name := range []string{"a", "b", "c/d"} {
		if err := os.WriteFile(filepath.Join(host, name), []byte("the host's secret"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		when string
		do   func(dir string) error
	}{
		"directory, before it is read": {"d/", func(dir string) error {
			return errors.Join(os.RemoveAll(dir+"/d"), os.Symlink(host, dir+"/d"))
		}},
		"directory, within it": {"d/a", func(dir string) error {
			return errors.Join(os.Rename(dir+"/d", dir+"/zz"), os.Symlink(host, dir+"/d"))
		}},
		"file, before its content": {"d/b", func(dir string) error {
			return errors.Join(os.Remove(dir+"/d/b"), os.Symlink(host+"/b", dir+"/d/b"))
		}},
		"file, by a pipe": {"d/b", func(dir string) error {
			return errors.Join(os.Remove(dir+"/d/b"), unix.Mkfifo(dir+"/d/b", 0o600))
		}},
		"file, by a directory": {"d/a", func(dir string) error {
			return errors.Join(os.Remove(dir+"/d/b"), os.Symlink(host+"/c", dir+"/d/b"))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := upper(t, "d/", "d/a", "d/b", "d/c/", "d/c/d")
			w := &acting{text: c.when, act: func() {
				if err := c.do(dir); err != nil {
					t.Error(err)
				}
			}}
			if err := WriteChanges(t.Context(), dir, w); err != nil || !w.done {
				t.Errorf("%v, swapped: %v", err, w.done)
			}
			if got := strings.Join(archived(t, w.Bytes()), "\n"); strings.Contains(got, "secret") {
				t.Errorf("the archive has\n%s", got)
			}
		})
	}
}

// TestRootWriteChangesOfGrowing: files are as long as they were said to be.
func TestRootWriteChangesOfGrowing(t *testing.T) {
	needRoot(t)
	for text, want := range map[string]string{"": "of \x00", "of more": "of m"} {
		dir := upper(t, "m")
		w := &acting{text: "m", act: func() {
			if err := errors.Join(os.Truncate(dir+"/m", 3), os.WriteFile(dir+"/m", append([]byte("of "), strings.TrimPrefix(text, "of ")...), 0o600)); err != nil {
				t.Error(err)
			}
		}}
		if err := WriteChanges(t.Context(), dir, w); err != nil {
			t.Fatal(err)
		}
		if got := archived(t, w.Bytes()); len(got) != 1 || !strings.HasSuffix(got[0], fmt.Sprintf("%q", want)) {
			t.Errorf("%q: got %q", text, got)
		}
	}
}

func TestRootWriteChangesEnds(t *testing.T) {
	needRoot(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	w := &acting{text: "a", act: func() { cancel(enough) }}
	began := time.Now()
	if err := WriteChanges(ctx, upper(t, "a", "b"), w); !errors.Is(err, enough) || time.Since(began) > 10*time.Second {
		t.Errorf("got %v", err)
	}
}
