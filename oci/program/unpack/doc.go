// Package unpack takes little-endian bytes of another process apart: launch programs, and what daemon and
// keeper tell each other. It never reads beyond their end, and allocates nothing.
package unpack
