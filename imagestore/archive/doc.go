// Package archive reads images out of tar files: OCI layouts (`skopeo copy oci-archive:`, `ctr images export`, `docker save` since 25)
// and docker archives (`docker save` of any age), plain or compressed by gzip or zstd.
//
// Duty: [Read] takes the stream as it comes, as it may be a pipe, and keeps the content of its files one after the other in a spool file: what
// says which blobs are layers often comes last. [Archive.Images] then lists what is in it, and [Archive.Fetch] reads blobs out of the spool.
//
// Where a file is both an OCI layout and a docker archive, the layout counts, and the docker archive's names are added.
//
// Not its concern: unpacking, and the digests of layers: those of documents are checked by imagestore/manifest, those of layers by
// imagestore/layer. Names of files in the archive are keys of a map and never paths.
//
//	oci-layout, index.json, blobs/sha256/<hex>                   OCI layout
//	manifest.json, <hex>.json or blobs/…, <id>/layer.tar or …    docker archive
package archive
