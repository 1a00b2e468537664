package nft

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Registers: 1 is the first 16 bytes, which the 4 byte registers from 8 on share (linux/netfilter/nf_tables.h).
const (
	reg  = unix.NFT_REG_1
	reg4 = unix.NFT_REG32_00
)

// ipFamily is what differs between the families in a rule.
type ipFamily struct {
	suffix    string
	proto     byte
	size      uint32 // of an address
	saddr     uint32 // offset in the IP header
	daddr     uint32
	addr      nftables.SetDatatype
	multicast netip.Prefix
	afterAddr uint32 // the 4 byte register behind an address
}

func families() []ipFamily {
	return []ipFamily{
		{"4", unix.NFPROTO_IPV4, 4, 12, 16, nftables.TypeIPAddr, netip.MustParsePrefix("224.0.0.0/4"), reg4 + 1},
		{"6", unix.NFPROTO_IPV6, 16, 8, 24, nftables.TypeIP6Addr, netip.MustParsePrefix("ff00::/8"), reg4 + 4},
	}
}

// sets are a table's. The ids need to be unique in a transaction only.
func sets(table *nftables.Table) map[string]*nftables.Set {
	out := map[string]*nftables.Set{}
	id := uint32(0)
	add := func(name string, data *nftables.SetDatatype, key ...nftables.SetDatatype) {
		id++
		s := &nftables.Set{Table: table, ID: id, Name: name, KeyType: key[0]}
		if len(key) > 1 {
			s.KeyType, s.Concatenation = nftables.MustConcatSetType(key...), true
		}
		if data != nil {
			s.IsMap, s.DataType = true, *data
		}
		out[name] = s
	}
	for _, f := range families() {
		to := nftables.MustConcatSetType(f.addr, nftables.TypeInetService)
		add(setPorts+f.suffix, &to, nftables.TypeInetProto, nftables.TypeInetService)
		add(setHostPorts+f.suffix, &to, f.addr, nftables.TypeInetProto, nftables.TypeInetService)
		add(setSNAT+f.suffix, nil, f.addr, f.addr)
		add(setMasq+f.suffix, nil, f.addr)
	}
	return out
}

func (f ipFamily) is() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{f.proto}},
	}
}

func (f ipFamily) load(offset, register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.size}
}

// within matches an address of the header that is, or is not, in a subnet.
func (f ipFamily) within(offset uint32, p netip.Prefix, op expr.CmpOp) []expr.Any {
	return []expr.Any{
		f.load(offset, reg),
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: f.size, Mask: mask(p), Xor: make([]byte, f.size)},
		&expr.Cmp{Op: op, Register: reg, Data: p.Masked().Addr().AsSlice()},
	}
}

func mask(p netip.Prefix) []byte {
	m := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		m[i/8] |= 1 << (7 - i%8)
	}
	return m
}

// l4 loads protocol and destination port. The port is in the same place for TCP, UDP and SCTP.
func l4(proto, port uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: proto},
		&expr.Payload{DestRegister: port, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

func (f ipFamily) dnat(set *nftables.Set) []expr.Any {
	return []expr.Any{
		&expr.Lookup{SourceRegister: reg, DestRegister: reg, IsDestRegSet: true, SetName: set.Name, SetID: set.ID},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f.proto), RegAddrMin: reg, RegProtoMin: f.afterAddr},
	}
}

// dnatRules look a packet's destination up, first with its address.
func (f ipFamily) dnatRules(s map[string]*nftables.Set) [][]expr.Any {
	byAddr := append(f.is(), f.load(f.daddr, reg))
	byAddr = append(append(byAddr, l4(f.afterAddr, f.afterAddr+1)...), f.dnat(s[setHostPorts+f.suffix])...)
	byPort := append(f.is(), l4(reg4, reg4+1)...)
	return [][]expr.Any{byAddr, append(byPort, f.dnat(s[setPorts+f.suffix])...)}
}

// snatRules undo for the way back what dnatRules did.
func (f ipFamily) snatRules(s map[string]*nftables.Set, subnets []netip.Prefix) [][]expr.Any {
	set := s[setSNAT+f.suffix]
	named := append(f.is(), f.load(f.saddr, reg4), f.load(f.daddr, f.afterAddr),
		&expr.Lookup{SourceRegister: reg, SetName: set.Name, SetID: set.ID}, &expr.Masq{})
	out := [][]expr.Any{named}
	for _, p := range subnets {
		if family(p.Addr()) != f.suffix {
			continue
		}
		status := make([]byte, 4)
		binary.NativeEndian.PutUint32(status, 1<<5) // IPS_DST_NAT
		rule := append(f.is(),
			&expr.Ct{Key: expr.CtKeySTATUS, Register: reg},
			&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4, Mask: status, Xor: make([]byte, 4)},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: make([]byte, 4)})
		rule = append(append(rule, f.within(f.saddr, p, expr.CmpOpEq)...), f.within(f.daddr, p, expr.CmpOpEq)...)
		out = append(out, append(rule, &expr.Masq{}))
	}
	return out
}

// masqRules hide what leaves a subnet behind the host's address, but for multicast and what goes to direct.
func (f ipFamily) masqRules(s map[string]*nftables.Set, subnets, direct []netip.Prefix) [][]expr.Any {
	var out [][]expr.Any
	for _, p := range append([]netip.Prefix{f.multicast}, direct...) {
		if family(p.Addr()) == f.suffix {
			rule := append(f.is(), f.within(f.daddr, p, expr.CmpOpEq)...)
			out = append(out, append(rule, &expr.Verdict{Kind: expr.VerdictReturn}))
		}
	}
	set := s[setMasq+f.suffix]
	for _, p := range subnets {
		if family(p.Addr()) != f.suffix {
			continue
		}
		rule := append(f.is(), f.load(f.saddr, reg), &expr.Lookup{SourceRegister: reg, SetName: set.Name, SetID: set.ID})
		rule = append(append(rule, f.within(f.saddr, p, expr.CmpOpEq)...), f.within(f.daddr, p, expr.CmpOpNeq)...)
		out = append(out, append(rule, &expr.Masq{}))
	}
	return out
}

// toLocal matches packets to an address of the host, under the conditions that the network sets.
func toLocal(conditions []expr.Any) []expr.Any {
	local := make([]byte, 4)
	binary.NativeEndian.PutUint32(local, unix.RTN_LOCAL)
	return append(append([]expr.Any(nil), conditions...),
		&expr.Fib{Register: reg, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: local},
		&expr.Verdict{Kind: expr.VerdictJump, Chain: chainHostPorts})
}

// Address matches a packet's source or destination that is, or with not is not, in a subnet.
func Address(source bool, p netip.Prefix, not bool) []expr.Any {
	f, offset, op := families()[0], uint32(0), expr.CmpOpEq
	if p.Addr().Is6() {
		f = families()[1]
	}
	if offset = f.daddr; source {
		offset = f.saddr
	}
	if not {
		op = expr.CmpOpNeq
	}
	return f.within(offset, p, op)
}

// InInterface matches a packet that came, or with not did not come, by an interface; a name that ends in + or * is a beginning.
func InInterface(name string, not bool) []expr.Any {
	data := append([]byte(name), 0)
	if name != "" && (name[len(name)-1] == '+' || name[len(name)-1] == '*') {
		data = []byte(name[:len(name)-1])
	} else {
		data = append(data, make([]byte, max(0, unix.IFNAMSIZ-len(data)))...)
	}
	op := expr.CmpOpEq
	if not {
		op = expr.CmpOpNeq
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg},
		&expr.Cmp{Op: op, Register: reg, Data: data},
	}
}
