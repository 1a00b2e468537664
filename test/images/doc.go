// Package images builds the images that tests run, offline but for Debian's source
// of busybox: equivalents of those which critest pulls, under the same names
// (Catalog), the same content in every format that a registry may serve (Formats),
// and ones that are made to do harm (Hostile). Everything is deterministic: two
// builds give the same digests.
//
// The root file system of nearly all is busybox 1.35, static, with a hard link for
// each applet, as Docker's image has it; servers and the like are the small static
// Go programs below programs/. Both are built once and kept below the module's
// .cache directory (or BERTH_CACHE), which one process at a time fills.
//
// It knows nothing of berth: a runtime of any make could be tested with it.
package images
