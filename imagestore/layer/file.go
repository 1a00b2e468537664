package layer

import (
	"archive/tar"
	"bytes"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

// earlyWrite is the size from which a file's content is on its way to the disk as soon as it is here: the pull waits for the disk at its end, and
// most of an image's bytes are in few files.
const earlyWrite = 128 << 10

func (a *applier) makeFile(parent *directory, base string, hdr *tar.Header, content io.Reader) error {
	fd := -1
	err := a.place(parent, base, func() (err error) {
		fd, err = createFile(parent.fd, base)
		return err
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	written, err := a.write(fd, join(parent.path, base), hdr, content)
	if err != nil {
		return err
	}
	a.count(written)
	return setOpenMetadata(fd, hdr)
}

// write copies the content. It returns the bytes that take space: those of a sparse file's holes don't.
func (a *applier) write(fd int, path string, hdr *tar.Header, content io.Reader) (written int64, err error) {
	sparse := isSparse(hdr)
	if !sparse { // whose holes the tar doesn't have
		if err := a.origin.content(path, hdr.Size); err != nil {
			return 0, err
		}
	}
	var offset int64
	for {
		n, readErr := io.ReadFull(content, a.buf)
		if n > 0 {
			a.progress()
			wrote, err := writeBlocks(fd, a.buf[:n], offset, sparse)
			if err != nil {
				return 0, err
			}
			written += wrote
			offset += int64(n)
		}
		if readErr == io.EOF || readErr == io.ErrUnexpectedEOF && offset == hdr.Size {
			break
		}
		if readErr != nil {
			return 0, streamError{readErr}
		}
	}
	if sparse {
		return written, unix.Ftruncate(fd, offset)
	}
	if offset >= earlyWrite {
		startWriting(fd)
	}
	return written, nil
}

// isSparse: the three ways of GNU tar to say so. archive/tar expands the holes to zeros.
func isSparse(hdr *tar.Header) bool {
	if hdr.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range hdr.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// writeBlocks leaves out blocks of zeros when sparse is set.
func writeBlocks(fd int, p []byte, offset int64, sparse bool) (written int64, err error) {
	if !sparse {
		return int64(len(p)), writeAt(fd, p, offset)
	}
	for len(p) > 0 {
		n := min(len(p), diskBlock)
		if !bytes.Equal(p[:n], zeros[:n]) {
			if err := writeAt(fd, p[:n], offset); err != nil {
				return 0, err
			}
			written += int64(n)
		}
		p, offset = p[n:], offset+int64(n)
	}
	return written, nil
}

var zeros [diskBlock]byte
