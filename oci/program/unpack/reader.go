package unpack

import "encoding/binary"

// Reader reads from the front of bytes. After a read beyond the end, and after Fail, it is short: nothing is
// left, and every value is zero. The zero value has nothing.
type Reader struct {
	rest  []byte
	short bool
}

// NewReader reads b, which it does not copy.
func NewReader(b []byte) Reader { return Reader{rest: b} }

// Short says whether a read went beyond the end, or Fail was called.
func (r *Reader) Short() bool { return r.short }

// Len is how many bytes are left.
func (r *Reader) Len() int { return len(r.rest) }

// Fail makes the reader short: what was read can't be.
func (r *Reader) Fail() { r.rest, r.short = nil, true }

// Bytes returns the next n bytes, which are the reader's own: nil when there are fewer.
func (r *Reader) Bytes(n int) []byte {
	if n < 0 || n > len(r.rest) {
		r.Fail()
		return nil
	}
	v := r.rest[:n:n]
	r.rest = r.rest[n:]
	return v
}

// U8 reads a byte.
func (r *Reader) U8() uint8 {
	if v := r.Bytes(1); v != nil {
		return v[0]
	}
	return 0
}

// U16 reads two bytes.
func (r *Reader) U16() uint16 {
	if v := r.Bytes(2); v != nil {
		return binary.LittleEndian.Uint16(v)
	}
	return 0
}

// U32 reads four bytes.
func (r *Reader) U32() uint32 {
	if v := r.Bytes(4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

// U64 reads eight bytes.
func (r *Reader) U64() uint64 {
	if v := r.Bytes(8); v != nil {
		return binary.LittleEndian.Uint64(v)
	}
	return 0
}

// Count checks that n things of at least size bytes each may follow, and are no more than limit. Otherwise the
// reader is short and Count 0: nothing is to be allocated for what can't be there.
func (r *Reader) Count(n, size, limit int) int {
	if n < 0 || n > limit || n*size > len(r.rest) {
		r.Fail()
		return 0
	}
	return n
}
