package imagestore

import (
	"context"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// maxWalk bounds one walk: what a container fills with more files than that is counted as far as this.
	maxWalk = 500_000
	// maxWalkDepth bounds the directories that a walk keeps open.
	maxWalkDepth = 256
)

// walker adds up what is below a directory. A container may change it meanwhile: every step is taken by descriptor and no symlink is
// followed, so that it can't be led away.
type walker struct {
	ctx           context.Context
	bytes, inodes uint64
	linked        map[uint64]bool // inodes with several names, counted once
}

// diskUsage counts blocks and inodes below path, path included. The error is the context's, or that of opening path.
func diskUsage(ctx context.Context, path string) (bytes, inodes uint64, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, 0, &os.PathError{Op: "open", Path: path, Err: err}
	}
	w := walker{ctx: ctx, linked: map[uint64]bool{}}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err == nil {
		w.add(&st)
	}
	err = w.dir(os.NewFile(uintptr(fd), path), 0)
	return w.bytes, w.inodes, err
}

// dir closes d.
func (w *walker) dir(d *os.File, depth int) error {
	defer d.Close()
	for w.inodes < maxWalk {
		if w.ctx.Err() != nil {
			return context.Cause(w.ctx)
		}
		names, err := d.Readdirnames(256)
		for _, name := range names {
			if err := w.entry(int(d.Fd()), name, depth); err != nil {
				return err
			}
		}
		if err == io.EOF || len(names) == 0 {
			return nil // another error: being deleted
		}
	}
	return nil
}

func (w *walker) entry(dir int, name string, depth int) error {
	var st unix.Stat_t
	if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return nil // gone meanwhile
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if st.Nlink > 1 {
			if w.linked[st.Ino] {
				return nil
			}
			w.linked[st.Ino] = true
		}
		w.add(&st)
		return nil
	}
	w.add(&st)
	if depth == maxWalkDepth {
		return nil
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return w.dir(os.NewFile(uintptr(fd), name), depth+1)
}

func (w *walker) add(st *unix.Stat_t) {
	w.bytes += uint64(st.Blocks) * 512
	w.inodes++
}
