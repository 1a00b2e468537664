package imagestore

import "fmt"

// What a layer is on the disk: layerRecord.Format.
const (
	// formatDirectory: "layers/<hex>" is a directory with the layer's files.
	formatDirectory = ""
	// formatErofs: "layers/<hex>" is a file, an EROFS image that has the layer's tar in it.
	formatErofs = "erofs"
)

// What Config.LayerFormat can be.
const (
	LayerFormatAuto      = "auto"
	LayerFormatDirectory = "directory"
	LayerFormatErofs     = "erofs"
)

// chooseFormat settles what new layers are made as, with try, which says why they can't be files: that is unfit. It fails where they must be.
func chooseFormat(configured string, try func() error) (format string, unfit, err error) {
	if configured == LayerFormatDirectory {
		return formatDirectory, nil, nil
	}
	unfit = try()
	if unfit == nil {
		return formatErofs, nil, nil
	}
	if configured == LayerFormatErofs {
		return "", nil, fmt.Errorf("layer_format %q: %w", configured, unfit)
	}
	return formatDirectory, unfit, nil
}

// LayerFormat tells what new layers are made as, and why where that isn't configured.
func (cat *catalog) LayerFormat() string {
	switch {
	case cat.format == formatErofs:
		return LayerFormatErofs
	case cat.unfit != nil:
		return fmt.Sprintf("%s: %v", LayerFormatDirectory, cat.unfit)
	}
	return LayerFormatDirectory
}
