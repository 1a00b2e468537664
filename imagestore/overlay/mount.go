package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/imagestore/fscontext"
)

// Options are what an overlay mount is made of. All paths are absolute.
type Options struct {
	// Lowers are the layers, the top one first.
	Lowers []Lower
	// Upper and Work are where changes go, on one file system. Both empty: a read-only mount, of two lowers at least.
	Upper, Work string
	// Volatile: what is in Upper needn't survive a crash of the machine.
	Volatile bool
	// Users is a user namespace through whose mapping the lowers' owners are seen; nil: as they are. Upper is never mapped: its files belong to
	// the host's ids of the namespace's users. Base is a directory on their mount that all lowers which are directories are below; needed with Users.
	Users *os.File
	Base  string
	// Label is the SELinux label of all files of the mount (mount(8), "context="); "": their own.
	Label string
	// mixed: some of the lowers are mounts, though they are given as directories.
	mixed bool
}

func (o Options) check() error {
	paths := []string{o.Upper, o.Work}
	for _, lower := range o.Lowers {
		paths = append(paths, lower.Path)
	}
	for _, path := range paths {
		if path != "" && !filepath.IsAbs(path) {
			return fmt.Errorf("path %q is not absolute", path)
		}
	}
	least := 1
	if o.Upper == "" {
		least = 2
	}
	if len(o.Lowers) < least || (o.Upper == "") != (o.Work == "") {
		return errors.New("incomplete options")
	}
	if o.Users == nil {
		return nil
	}
	for _, lower := range o.Lowers {
		if lower.Mount != nil {
			continue
		}
		if below, err := filepath.Rel(o.Base, lower.Path); err != nil || !filepath.IsLocal(below) {
			return fmt.Errorf("layer %s is not below %q", lower.Path, o.Base)
		}
	}
	return nil
}

// Mounter makes mounts in the way that the kernel offers. It is safe for concurrent use.
type Mounter struct {
	oneByOne bool
	apart    apart
}

// NewMounter asks the kernel what it can. It makes no mount.
func NewMounter() (*Mounter, error) {
	oneByOne, err := OneByOne()
	if err != nil {
		return nil, err
	}
	return &Mounter{oneByOne: oneByOne}, nil
}

// OneByOne says whether this kernel takes an overlay's layers one by one, by "lowerdir+" (Linux 6.7), and so any number of them with long
// paths. It makes no mount; an error is a kernel without overlays.
func OneByOne() (bool, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return false, fmt.Errorf("open overlay file system: %w", err)
	}
	defer unix.Close(fs)
	return takesLayers(func(key, value string) error { return unix.FsconfigSetString(fs, key, value) }), nil
}

// takesLayers asks with a key that no kernel knows too: an overlay that is not of the new mount API (before Linux 6.5) takes every word,
// and refuses them all when it is created (fs/fs_context.c, legacy_parse_param).
func takesLayers(set func(key, value string) error) bool {
	return set("lowerdir+", "/") == nil && set("berth", "no option of overlayfs") != nil
}

// Mount makes a detached overlay mount; the caller closes it. It needs CAP_SYS_ADMIN. Two mounts at once with one Upper are undefined by the
// kernel (filesystems/overlayfs.rst, "Sharing and copying layers"): whoever needs it twice clones the first by open_tree(2).
func (m *Mounter) Mount(o Options) (*os.File, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("mount overlay: %w", err)
	}
	if o.Upper != "" {
		if err := reuse(o.Work); err != nil {
			return nil, fmt.Errorf("mount overlay: %w", err)
		}
	}
	file, err := m.mount(o)
	if err != nil {
		return nil, fmt.Errorf("mount overlay of %d layers: %w", len(o.Lowers), err)
	}
	return file, nil
}

func (m *Mounter) mount(o Options) (*os.File, error) {
	if o.detached() {
		return m.mountDetached(o)
	}
	if m.oneByOne && o.fits() {
		file, err := m.mountByPieces(o)
		if err == nil || o.Users == nil {
			return file, err
		}
		// Layers by descriptor need Linux 6.13, those of detached mounts 6.15.
	}
	file, err := mountByString(o)
	if o.Users != nil && errors.Is(err, unix.EINVAL) {
		err = fmt.Errorf("%w (overlayfs has mapped layers since Linux 5.19)", err)
	}
	return file, err
}

// reuse lets a work directory be mounted again after a volatile mount, which leaves a mark against just that
// (filesystems/overlayfs.rst, "Volatile mount"): the mark is about crashes of the machine, which the caller accepts.
func reuse(work string) error {
	return os.RemoveAll(filepath.Join(work, "work", "incompat", "volatile"))
}

// fits tells whether every path can be given to fsconfig by itself.
func (o Options) fits() bool {
	for _, lower := range o.Lowers {
		if !fscontext.Fits(lower.Path) {
			return false
		}
	}
	return fscontext.Fits(o.Upper) && fscontext.Fits(o.Work)
}

const labelOption = "context"

// settings are what all mounts have besides layers.
func (o Options) settings() (pairs [][2]string, flags []string) {
	pairs = [][2]string{{"index", "off"}, {"metacopy", "off"}, {"redirect_dir", "nofollow"}}
	if o.Label != "" {
		pairs = append(pairs, [2]string{labelOption, o.Label})
	}
	if o.mixed || o.detached() {
		pairs = append(pairs, [2]string{"xino", "off"})
	}
	if o.Volatile && o.Upper != "" {
		flags = []string{"volatile"}
	}
	return pairs, flags
}

func (m *Mounter) mountByPieces(o Options) (*os.File, error) {
	fs, err := fscontext.Open("overlay")
	if err != nil {
		return nil, err
	}
	defer fs.Close()
	pairs, flags := o.settings()
	for _, pair := range append([][2]string{{"source", "berth"}}, pairs...) {
		if err := fs.String(pair[0], pair[1]); err != nil {
			return nil, err
		}
	}
	held, err := addLowers(fs, o)
	defer func() { go closeAll(held) }() // it ends by itself, soon: the last close of a mount waits for all processors, 50 µs each
	if err != nil {
		return nil, err
	}
	if o.Upper != "" {
		if err := errors.Join(fs.Path("upperdir", o.Upper), fs.Path("workdir", o.Work)); err != nil {
			return nil, err
		}
	}
	for _, flag := range flags {
		if err := fs.Flag(flag); err != nil {
			return nil, err
		}
	}
	attributes := 0
	if o.Upper == "" {
		attributes = unix.MOUNT_ATTR_RDONLY
	}
	return fs.Mount(attributes)
}

// addLowers gives an overlay its lowers, and returns the mounts made for it that the caller closes once the overlay is created, which makes
// private copies of them (or has failed).
func addLowers(fs *fscontext.Context, o Options) (held []*os.File, err error) {
	if o.Users != nil {
		return addMapped(fs, o)
	}
	for _, lower := range o.Lowers {
		if err := lower.add(fs); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func closeAll(mounts []*os.File) {
	for _, mount := range mounts {
		mount.Close()
	}
}

// Bind makes a detached, read-only mount of one layer, its owners seen through the mapping of the user namespace users (nil: as they
// are); the caller closes it. It needs CAP_SYS_ADMIN.
func (m *Mounter) Bind(lower Lower, users *os.File) (*os.File, error) {
	file, err := m.bind(lower, users)
	if err != nil {
		return nil, fmt.Errorf("bind: %w", err)
	}
	return file, nil
}
