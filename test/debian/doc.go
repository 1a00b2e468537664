// Package debian fetches Debian's packages, source and binary, by apt: with lists
// and a status of its own below a directory of the caller's. The machine's
// configuration says where Debian is and which keys it signs with; the machine itself
// stays as it was, and nothing is installed on it.
package debian
