// Package hostdev looks up device nodes of the host for package spec, which is
// pure and opens nothing. It reads the host's /dev and knows no container.
package hostdev
