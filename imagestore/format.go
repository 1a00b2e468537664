package imagestore

// What a layer is on the disk: layerRecord.Format.
const (
	// formatDirectory: "layers/<hex>" is a directory with the layer's files.
	formatDirectory = ""
	// formatErofs: "layers/<hex>" is a file, an EROFS image that has the layer's tar in it.
	formatErofs = "erofs"
)
