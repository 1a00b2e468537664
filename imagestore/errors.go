package imagestore

import (
	"errors"

	"github.com/berth-runtime/berth/imagestore/archive"
	"github.com/berth-runtime/berth/imagestore/fault"
)

// What callers can tell apart with errors.Is. Each error of this package that has one of these causes wraps it.
var (
	// ErrNotFound: no such image here, or no registry that was asked has it.
	ErrNotFound = errors.New("image not found")
	// ErrInvalidReference: the reference can't be read.
	ErrInvalidReference = errors.New("invalid image reference")
	// ErrUnavailable: no registry answered usefully, or data stopped coming.
	ErrUnavailable = errors.New("registry unavailable")
	// ErrDenied: the registry refused the credentials, or wants some.
	ErrDenied = errors.New("registry denied access")
	// ErrCorrupt: what was received isn't what was promised: a digest or size that differs, a tar that climbs out, a
	// manifest that can't be read.
	ErrCorrupt = errors.New("image is corrupt")
	// ErrNotArchive: what is to be imported holds no images.
	ErrNotArchive = archive.ErrNotArchive
	// ErrTooLarge: the image goes beyond a limit of the configuration.
	ErrTooLarge = errors.New("image is larger than allowed")
	// ErrUnsupported: the image is whole, and not for this node (platform, media type).
	ErrUnsupported = errors.New("image is not supported")
	// ErrRefused: the signature policy doesn't want the image.
	ErrRefused = errors.New("image is refused")
	// ErrInvalidKey: the key of a snapshot can't be a file name.
	ErrInvalidKey = errors.New("invalid snapshot key")
	// ErrExists: the snapshot exists, with another image.
	ErrExists = errors.New("snapshot exists")
	// ErrInUse: another process has the store open.
	ErrInUse = errors.New("image store is in use")
	// ErrPanicked: the work met a fault of berth's. What it is stands in the log.
	ErrPanicked = fault.ErrPanicked
)
