package layer

import (
	"strings"

	"golang.org/x/sys/unix"
)

// The names by which a layer removes what those below it have (OCI image specification, layer.md, "Whiteouts").
const (
	whiteoutPrefix = ".wh."
	// metaPrefix starts names that AUFS kept for itself, and that old layers still carry.
	metaPrefix   = ".wh..wh."
	opaqueMarker = ".wh..wh..opq"
)

// isMeta tells AUFS's own files, which mean nothing, from the one of them that the specification kept.
func isMeta(name string) bool {
	for component := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(component, metaPrefix) && component != opaqueMarker {
			return true
		}
	}
	return false
}

// hiddenBy is the name that a whiteout's name hides.
func hiddenBy(base string) (string, error) {
	hidden := strings.TrimPrefix(base, whiteoutPrefix)
	if hidden == "" || hidden == "." || hidden == ".." {
		return "", corrupt("whiteout of %s", quoteName(hidden))
	}
	if len(hidden) > unix.NAME_MAX {
		return "", corrupt("whiteout of a name of %d bytes", len(hidden))
	}
	return hidden, nil
}

func (a *applier) whiteout(parent *directory, base string) error {
	if base == opaqueMarker {
		if parent.path == "" {
			a.opaqueRoot = true
			return nil
		}
		return setOpaque(parent.fd)
	}
	hidden, err := hiddenBy(base)
	if err != nil {
		return err
	}
	err = unix.Mknodat(parent.fd, hidden, unix.S_IFCHR, 0)
	if err == unix.EEXIST {
		return a.whiteoutOwn(parent, hidden)
	}
	if err == nil {
		a.count(0)
	}
	return err
}

// whiteoutOwn: "Files that are present in the same layer as a whiteout file can only be hidden by whiteout files in subsequent
// layers." Of a directory the layers below don't show through any more.
func (a *applier) whiteoutOwn(parent *directory, hidden string) error {
	st, err := statAt(parent.fd, hidden)
	if err != nil || fileType(&st) != unix.S_IFDIR {
		return err
	}
	if real := join(parent.path, hidden); a.tree.implied[real] { // there is nothing to take a mode from
		delete(a.tree.implied, real)
		if err := unix.Fchmodat(parent.fd, hidden, 0o755, 0); err != nil {
			return err
		}
	}
	return a.tree.setOpaque(parent.fd, hidden)
}
