package hostlocal

import (
	"net/netip"
	"strings"
)

// addrRange is a run of addresses of one subnet, both ends in it.
type addrRange struct {
	subnet      netip.Prefix
	first, last netip.Addr
	gateway     netip.Addr // never given out
}

func (r addrRange) contains(a netip.Addr) bool {
	return a.Is4() == r.first.Is4() && !a.Less(r.first) && !r.last.Less(a)
}

func (r addrRange) String() string { return r.first.String() + "-" + r.last.String() }

// rangeSet is a list of ranges of one family; an attachment gets one address of each set.
type rangeSet []addrRange

func (s rangeSet) rangeOf(a netip.Addr) (addrRange, bool) {
	for _, r := range s {
		if r.contains(a) {
			return r, true
		}
	}
	return addrRange{}, false
}

func (s rangeSet) overlaps(other rangeSet) bool {
	for _, r := range s {
		for _, o := range other {
			if r.contains(o.first) || o.contains(r.first) {
				return true
			}
		}
	}
	return false
}

func (s rangeSet) String() string {
	parts := make([]string, len(s))
	for i, r := range s {
		parts[i] = r.String()
	}
	return strings.Join(parts, ",")
}

// from walks once over all addresses of the set that can be given out, starting behind the one that was given out last, as the
// reference plugin does: a free address rests as long as it can.
func (s rangeSet) from(last netip.Addr) func(yield func(addrRange, netip.Addr) bool) {
	return func(yield func(addrRange, netip.Addr) bool) {
		start, begin := 0, s[0].first
		for i, r := range s {
			if last.IsValid() && r.contains(last) {
				start, begin = i, last.Next()
			}
		}
		for turn := range len(s) + 1 {
			r := s[(start+turn)%len(s)]
			first, end := r.first, r.last
			if turn == 0 {
				first = begin
			}
			if turn == len(s) { // back in the range of the beginning: the part before it
				end = begin.Prev()
			}
			for a := first; a.IsValid() && !end.Less(a); a = a.Next() {
				if a != r.gateway && !yield(r, a) {
					return
				}
			}
		}
	}
}

// lastOf is the last address of a subnet that is given out when the range has no end: all but the broadcast address of IPv4.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	if a.Is4() {
		a = a.Prev()
	}
	return a
}
