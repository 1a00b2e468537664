package imagestore

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/imagestore/overlay"
)

// lowers are an image's layers as an overlay takes them, the top one first, as far down as anything is to be seen of them. What is mounted for that
// stays at least until release. Errors: ErrUnsupported for a layer that this kernel can't mount, ErrCorrupt for one that isn't what it was.
func (cat *catalog) lowers(chains []string) (_ []overlay.Lower, release func(), err error) {
	stacked := cat.visible(chains)
	lowers := make([]overlay.Lower, 0, len(stacked))
	var releases []func()
	release = func() {
		for _, f := range releases {
			f()
		}
	}
	for _, l := range stacked {
		lower, done, err := cat.lower(l.chain, l.format)
		if err != nil {
			release()
			return nil, nil, err
		}
		lowers, releases = append(lowers, lower), append(releases, done)
	}
	return lowers, release, nil
}

// lower is one layer of that format as an overlay takes it, until release.
func (cat *catalog) lower(chain, format string) (_ overlay.Lower, release func(), err error) {
	path := cat.layerDir(chain)
	if format == formatDirectory {
		return overlay.Lower{Path: path}, func() {}, nil
	}
	if format != formatErofs {
		return overlay.Lower{}, nil, fmt.Errorf("layer %s: %w: format %q is of a later berth", chain, ErrUnsupported, format)
	}
	mount, release, err := cat.mounts.take(chain, path)
	if err != nil {
		return overlay.Lower{}, nil, fmt.Errorf("layer %s: %w", chain, explainMount(err))
	}
	return overlay.Lower{Path: path, Mount: mount}, release, nil
}

// explainMount says whose fault it is that a layer isn't mounted: the kernel's, as after a return to an older one, or the disk's.
func explainMount(err error) error {
	switch {
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENOTBLK), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w here: it is a file that this kernel can't mount: %w", ErrUnsupported, err)
	case errors.Is(err, unix.EUCLEAN), errors.Is(err, unix.EBADMSG), errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// seenLayer is a layer that something is to be seen of.
type seenLayer struct{ chain, format string }

// visible are the layers of a stack that an opaque one doesn't hide, the top one first.
func (cat *catalog) visible(chains []string) []seenLayer {
	cat.mu.Lock()
	defer cat.mu.Unlock()
	var seen []seenLayer
	for _, chain := range slices.Backward(chains) {
		record := cat.layers[chain]
		if record == nil { // its files are gone: whoever mounts them says so
			record = &layerRecord{}
		}
		seen = append(seen, seenLayer{chain, record.Format})
		if record.Opaque {
			break
		}
	}
	return seen
}

// reach are the paths by which this process opens lowers, while they are not released.
func reach(lowers []overlay.Lower) []string {
	paths := make([]string, len(lowers))
	for i, lower := range lowers {
		paths[i] = lower.Reach()
	}
	return paths
}
