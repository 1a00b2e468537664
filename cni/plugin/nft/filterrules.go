package nft

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// podMark is the bit of a packet's mark that is set between the two chains. Kubernetes uses bits 14 and 15, the reference portmap plugin
// 13, Cilium 8 to 11, Calico 16 to 31.
const podMark = 1 << 12

// The sets of a Filter's table beside pods4 and pods6.
const (
	setBridges = "bridges" // that are kept apart
	setSame    = "same"    // each of them, from and to itself
	setClosed  = "closed"  // the same of those whose ports are kept apart
)

// newFilterTable is the daemon's own table of a Filter.
func newFilterTable(k *kernel, name string) *register {
	table := &nftables.Table{Name: name, Family: nftables.TableFamilyINet}
	pair := nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIFName)
	sets := map[string]*nftables.Set{
		setBridges: {Table: table, ID: 1, Name: setBridges, KeyType: nftables.TypeIFName},
		setSame:    {Table: table, ID: 2, Name: setSame, KeyType: pair, Concatenation: true},
		setClosed:  {Table: table, ID: 3, Name: setClosed, KeyType: pair, Concatenation: true},
	}
	for i, f := range families() {
		sets["pods"+f.suffix] = &nftables.Set{Table: table, ID: uint32(4 + i), Name: "pods" + f.suffix, KeyType: f.addr}
	}
	return &register{kernel: k, table: table, sets: sets, rules: func(conn *nftables.Conn) {
		for _, c := range []struct {
			name  string
			prio  nftables.ChainPriority
			rules [][]expr.Any
		}{
			{"before", -1, append(apart(sets), marking(sets)...)},
			{"behind", 1, [][]expr.Any{setMark(^uint32(podMark), 0)}},
		} {
			fillBase(conn, &nftables.Chain{
				Name: c.name, Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward,
				Priority: nftables.ChainPriorityRef(*nftables.ChainPriorityFilter + c.prio),
			}, c.rules)
		}
	}}
}

// fillBase makes a chain that the kernel calls, with these rules and no others.
func fillBase(conn *nftables.Conn, chain *nftables.Chain, rules [][]expr.Any) {
	c := conn.AddChain(chain)
	conn.FlushChain(c)
	for _, r := range rules {
		conn.AddRule(&nftables.Rule{Table: c.Table, Chain: c, Exprs: r})
	}
}

func inSet(set *nftables.Set, register uint32, not bool) expr.Any {
	return &expr.Lookup{SourceRegister: register, SetName: set.Name, SetID: set.ID, Invert: not}
}

// apart drops what crosses between bridges, or between the ports of one.
func apart(sets map[string]*nftables.Set) [][]expr.Any {
	in, out := &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: unix.NFT_REG_1}, &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: unix.NFT_REG_2}
	drop := &expr.Verdict{Kind: expr.VerdictDrop}
	return [][]expr.Any{
		{
			in, out, inSet(sets[setBridges], unix.NFT_REG_1, false), inSet(sets[setBridges], unix.NFT_REG_2, false),
			inSet(sets[setSame], unix.NFT_REG_1, true), drop,
		},
		{in, out, inSet(sets[setClosed], unix.NFT_REG_1, false), drop},
	}
}

// marking marks what is from pods, and to pods what belongs to a connection.
func marking(sets map[string]*nftables.Set) [][]expr.Any {
	var out [][]expr.Any
	known := binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED)
	for _, f := range families() {
		isPod := func(offset uint32) []expr.Any {
			return []expr.Any{f.load(offset, reg), inSet(sets["pods"+f.suffix], reg, false)}
		}
		answer := append(f.is(),
			&expr.Ct{Key: expr.CtKeySTATE, Register: reg},
			&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4, Mask: known, Xor: make([]byte, 4)},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: make([]byte, 4)})
		out = append(out,
			append(append(answer, isPod(f.daddr)...), setMark(^uint32(podMark), podMark)...),
			append(append(f.is(), isPod(f.saddr)...), setMark(^uint32(podMark), podMark)...))
	}
	return out
}

// setMark gives a packet the mark (mark & mask) ^ xor.
func setMark(mask, xor uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg},
		&expr.Bitwise{
			SourceRegister: reg, DestRegister: reg, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: binaryutil.NativeEndian.PutUint32(xor),
		},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg, SourceRegister: true},
	}
}
