package sandbox

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	metadata "github.com/checkpoint-restore/checkpointctl/lib"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/imagestore"
	"github.com/berth-runtime/berth/oci/criu"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// isArchive says whether what a client names as an image is the path of a checkpoint.
func isArchive(image string) bool { return strings.HasPrefix(image, "/") }

// archiveInfo is what an archive says of the container in it.
type archiveInfo struct {
	config metadata.ContainerConfig
	spec   specs.Spec
}

var errNotRegular = errors.New("not a regular file")

// readArchive reads what an archive says of itself. A file that is none is a mistake of the client's.
func readArchive(path string) (*archiveInfo, error) {
	wrong := func(err error) error {
		return &spec.FieldError{Field: "image.image", Value: path, Rule: "must be the archive of a checkpoint: " + err.Error()}
	}
	f, err := openArchive(path)
	if err != nil {
		return nil, wrong(err)
	}
	defer f.Close()
	const most = 16 << 20 // of JSON
	info := &archiveInfo{}
	missing := map[string]any{metadata.ConfigDumpFile: &info.config, metadata.SpecDumpFile: &info.spec}
	for in := tar.NewReader(f); len(missing) > 0; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil, wrong(fmt.Errorf("no %s in it", sortedNames(missing)))
		}
		if err != nil {
			return nil, wrong(err)
		}
		name := filepath.Clean(h.Name)
		into := missing[name]
		if into == nil || h.Typeflag != tar.TypeReg {
			continue
		}
		if err := json.NewDecoder(io.LimitReader(in, most)).Decode(into); err != nil {
			return nil, wrong(fmt.Errorf("read %s: %w", name, err))
		}
		delete(missing, name)
	}
	if info.spec.Process == nil || info.spec.Linux == nil {
		return nil, wrong(errors.New("its spec.dump has no process"))
	}
	return info, nil
}

// openArchive opens a regular file only: to open a FIFO takes until somebody writes to it, and to open a device may do something.
func openArchive(path string) (*os.File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, errNotRegular
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // another may be there by now
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, errors.Join(errNotRegular, err, f.Close())
	}
	return f, nil
}

func sortedNames(m map[string]any) string {
	var names []string
	for _, name := range []string{metadata.ConfigDumpFile, metadata.SpecDumpFile} {
		if m[name] != nil {
			names = append(names, name)
		}
	}
	return strings.Join(names, " and ")
}

// image finds the image that the container was made from, which must be there.
func (a *archiveInfo) image(images Images) (*imagestore.Image, error) {
	var err error
	for _, ref := range []string{a.config.RootfsImageRef, a.config.RootfsImageName, a.config.RootfsImage} {
		if ref == "" {
			continue
		}
		var image *imagestore.Image
		if image, err = images.Image(ref); err == nil {
			return image, nil
		}
	}
	if err == nil {
		err = imagestore.ErrNotFound
	}
	return nil, fmt.Errorf("image %q of the checkpoint: %w", a.config.RootfsImageName, err)
}

// unpackArchive writes an archive's files into a new directory: regular files, as many levels deep as checkpoints have.
func unpackArchive(ctx context.Context, path, dir string) error {
	f, err := openArchive(path)
	if err != nil {
		return fmt.Errorf("unpack checkpoint: %w", err)
	}
	defer f.Close()
	if err := os.MkdirAll(filepath.Join(dir, metadata.CheckpointDirectory), 0o700); err != nil {
		return fmt.Errorf("unpack checkpoint: %w", err)
	}
	root, err := os.OpenRoot(dir) // no name leads out of it
	if err != nil {
		return fmt.Errorf("unpack checkpoint: %w", err)
	}
	defer root.Close()
	for in := tar.NewReader(f); ctx.Err() == nil; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = unpackEntry(root, h, in)
		}
		if err != nil {
			return fmt.Errorf("unpack checkpoint: %w", err)
		}
	}
	return context.Cause(ctx)
}

func unpackEntry(root *os.Root, h *tar.Header, content io.Reader) error {
	name := filepath.Clean(h.Name)
	if parent := filepath.Dir(name); h.Typeflag != tar.TypeReg || parent != "." && parent != metadata.CheckpointDirectory {
		return nil // nothing that a restore reads
	}
	out, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, content); err != nil {
		return err
	}
	return out.Close()
}

// restoreRecord says that a container's process comes from a checkpoint, whose files are in Config.restored until it has started.
type restoreRecord struct {
	Streams [3]string `json:"streams"` // what the standard streams are called in it
}

// restored is where a container's checkpoint waits for its start.
func (c *Config) restored(id string) string { return filepath.Join(c.checkpoints(), id) }

// prepareRestore unpacks the archive that a container is made from.
func (r *containerCreate) prepareRestore() step {
	cs, archive := r.containers, r.archive
	dir := cs.cfg.restored(r.c.id)
	return step{
		name: "unpack the checkpoint",
		do: func(ctx context.Context) error {
			if archive == "" {
				return nil
			}
			if err := cs.awaitSweep(ctx); err != nil {
				return err
			}
			if err := unpackArchive(ctx, archive, dir); err != nil {
				return err
			}
			streams, err := criu.StandardStreams(filepath.Join(dir, metadata.CheckpointDirectory))
			if err != nil {
				return &spec.FieldError{Field: "image.image", Value: archive, Rule: "must be the archive of a checkpoint: " + err.Error()}
			}
			r.c.record.Restore = &restoreRecord{Streams: streams}
			return nil
		},
		undo: func(context.Context) error { return cs.dropCheckpoint(r.c) },
	}
}

// restorable says what of a configuration contradicts the checkpoint that the container is made from.
func (r *containerCreate) restorable() error {
	if err := matches(r.c.spec, r.dumped); err != nil {
		return err
	}
	if r.archive == r.c.config.Image.Image { // the checkpoint says what the process is
		return nil
	}
	if err := sameProcess(r.c.spec, r.dumped); err != nil {
		return err
	}
	// One that is privileged has what the node has, whatever that is.
	if path := newDevice(r.c.spec, r.dumped); path != "" && !r.c.config.Security.Privileged {
		return fmt.Errorf("device %s: the checkpoint has none, and the process can't get it: %w", path, ErrState)
	}
	return nil
}

// dropCheckpoint removes what a restore needed. One that is gone is a success.
func (cs *containers) dropCheckpoint(c *container) error {
	return errors.Join(os.RemoveAll(cs.cfg.restored(c.id)), os.RemoveAll(cs.cfg.restoreBundle(c)))
}
