package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/oci"
	"github.com/berth-runtime/berth/oci/criu"
)

// restoreMounts are what criu finds in a bundle while it restores.
type restoreMounts struct {
	dir      string
	mounts   []oci.CommandMount
	external map[string]string // where each mount from outside is, by its destination
	files    []*os.File        // of mounts, that are nobody else's
}

func (b *restoreMounts) close() {
	for _, f := range b.files {
		f.Close()
	}
}

// layOutRestore makes a bundle. The caller closes it when criu has ended.
func (ck *checkpoints) layOutRestore(dir, images string, s *start, in oci.Container) (*restoreMounts, error) {
	for _, d := range []string{"rootfs", "mounts"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("make bundle: %w", err)
		}
	}
	b := &restoreMounts{dir: dir, external: map[string]string{}}
	b.mounts = []oci.CommandMount{{File: in.Root, Target: filepath.Join(dir, "rootfs")}}
	for _, m := range s.spec.Mounts {
		extra := oci.CommandMount{Target: b.target(), Options: m.Options}
		switch given := in.Mounts[m.Destination]; {
		case m.Type == "cgroup":
			path, err := s.c.group.Dir()
			if err != nil {
				return nil, fmt.Errorf("mount on %s: %w: %w", m.Destination, err, ErrState)
			}
			extra.Path = path
		case given != nil:
			extra.Copy = given
		case m.Type == "bind":
			extra.Path = m.Source
		default:
			continue
		}
		if err := makeTarget(extra); err != nil {
			return nil, fmt.Errorf("mount on %s: %w", m.Destination, err)
		}
		b.add(m.Destination, extra)
	}
	names, err := criu.External(images)
	if err != nil {
		return nil, err
	}
	for _, destination := range names {
		if b.external[destination] != "" {
			continue
		}
		if err := ck.addBelow(b, destination, s.spec.Mounts); err != nil {
			b.close()
			return nil, fmt.Errorf("mount on %s: the checkpoint has one there: %w", destination, err)
		}
	}
	return b, nil
}

// target is where the next mount goes.
func (b *restoreMounts) target() string {
	return filepath.Join(b.dir, "mounts", strconv.Itoa(len(b.mounts)))
}

func (b *restoreMounts) add(destination string, m oci.CommandMount) {
	b.external[destination] = m.Target
	b.mounts = append(b.mounts, m)
}

// addBelow adds what was mounted below a volume: what is there now, mounted or not, for criu copies mounts one by one. The volume's content is
// anybody's, so it is opened here: no symlink leads out of the volume.
func (ck *checkpoints) addBelow(b *restoreMounts, destination string, mounts []specs.Mount) error {
	var volume specs.Mount
	for _, m := range mounts {
		if m.Type == "bind" && m.Source != "" && strings.HasPrefix(destination, m.Destination+"/") && len(m.Destination) > len(volume.Destination) {
			volume = m
		}
	}
	if volume.Source == "" {
		return fmt.Errorf("it is below no volume: %w", ErrState)
	}
	root, err := os.OpenFile(volume.Source, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("open volume: %w", err)
	}
	defer root.Close()
	f, err := ck.host.below(root, destination[len(volume.Destination)+1:])
	if err != nil {
		return fmt.Errorf("look for it in volume %s: %w: %w", volume.Source, err, ErrState)
	}
	b.files = append(b.files, f)
	extra := oci.CommandMount{Copy: f, Target: b.target(), Options: volume.Options, Below: true}
	st, err := f.Stat()
	if err == nil && st.IsDir() {
		err = os.Mkdir(extra.Target, 0o700)
	} else if err == nil {
		err = os.WriteFile(extra.Target, nil, 0o600)
	}
	if err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	b.add(destination, extra)
	return nil
}
