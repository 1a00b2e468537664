package nft

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// podMark is the bit of a packet's mark that is set between the two chains. Kubernetes uses bits 14 and 15, the reference portmap plugin
// 13, Cilium 8 to 11, Calico 16 to 31.
const podMark = 1 << 12

// filterTable is the daemon's own table of a Filter.
type filterTable struct {
	kernel  *nftables.Table
	pods    map[string]*nftables.Set // by family
	bridges *nftables.Set            // that are kept apart
	same    *nftables.Set            // each of them, from and to itself
	closed  *nftables.Set            // the same of those whose ports are kept apart
}

func newFilterTable(name string) *filterTable {
	k := &nftables.Table{Name: name, Family: nftables.TableFamilyINet}
	pair := nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIFName)
	t := &filterTable{
		kernel: k, pods: map[string]*nftables.Set{},
		bridges: &nftables.Set{Table: k, ID: 1, Name: "bridges", KeyType: nftables.TypeIFName},
		same:    &nftables.Set{Table: k, ID: 2, Name: "same", KeyType: pair, Concatenation: true},
		closed:  &nftables.Set{Table: k, ID: 3, Name: "closed", KeyType: pair, Concatenation: true},
	}
	for i, f := range families() {
		t.pods[f.suffix] = &nftables.Set{Table: k, ID: uint32(4 + i), Name: "pods" + f.suffix, KeyType: f.addr}
	}
	return t
}

func (t *filterTable) sets() []*nftables.Set {
	return []*nftables.Set{t.bridges, t.same, t.closed, t.pods["4"], t.pods["6"]}
}

// read returns what the kernel has, nil when it has no such table.
func (t *filterTable) read(conn *nftables.Conn) (map[netip.Addr]string, map[string]bool, error) {
	if _, err := conn.ListTableOfFamily(t.kernel.Name, t.kernel.Family); errors.Is(err, unix.ENOENT) {
		return nil, nil, nil
	} else if err != nil {
		return nil, nil, fmt.Errorf("look up nf_tables table %s: %w", t.kernel.Name, err)
	}
	pods, bridges := map[netip.Addr]string{}, map[string]bool{}
	for _, set := range t.sets() {
		list, err := conn.GetSetElements(set)
		if err != nil {
			return nil, nil, fmt.Errorf("read nf_tables set %s of %s: %w", set.Name, t.kernel.Name, err)
		}
		for _, e := range list {
			switch set {
			case t.bridges:
				bridges[interfaceOf(e.Key)] = bridges[interfaceOf(e.Key)]
			case t.closed:
				bridges[interfaceOf(e.Key)] = true
			case t.same:
			default:
				if a, ok := netip.AddrFromSlice(e.Key); ok {
					pods[a] = e.Comment
				}
			}
		}
	}
	return pods, bridges, nil
}

// create adds the table with its sets, chains and rules.
func (t *filterTable) create(conn *nftables.Conn) {
	conn.AddTable(t.kernel)
	for _, s := range t.sets() {
		if err := conn.AddSet(s, nil); err != nil {
			panic(err) // only for anonymous sets and lengths that are ours
		}
	}
	chain := func(name string, prio int, rules [][]expr.Any) {
		c := conn.AddChain(&nftables.Chain{
			Name: name, Table: t.kernel, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward,
			Priority: nftables.ChainPriorityRef(*nftables.ChainPriorityFilter + nftables.ChainPriority(prio)),
		})
		conn.FlushChain(c)
		for _, r := range rules {
			conn.AddRule(&nftables.Rule{Table: t.kernel, Chain: c, Exprs: r})
		}
	}
	chain("before", -1, append(t.apart(), t.marking()...))
	chain("behind", 1, [][]expr.Any{setMark(^uint32(podMark), 0)})
}

// apart drops what crosses between bridges, or between the ports of one.
func (t *filterTable) apart() [][]expr.Any {
	in, out := &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: unix.NFT_REG_1}, &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: unix.NFT_REG_2}
	drop := &expr.Verdict{Kind: expr.VerdictDrop}
	return [][]expr.Any{
		{
			in, out, &expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: t.bridges.Name, SetID: t.bridges.ID},
			&expr.Lookup{SourceRegister: unix.NFT_REG_2, SetName: t.bridges.Name, SetID: t.bridges.ID},
			&expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: t.same.Name, SetID: t.same.ID, Invert: true}, drop,
		},
		{in, out, &expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: t.closed.Name, SetID: t.closed.ID}, drop},
	}
}

// marking marks what is from pods, and to pods what belongs to a connection.
func (t *filterTable) marking() [][]expr.Any {
	var out [][]expr.Any
	known := binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED)
	for _, f := range families() {
		set := t.pods[f.suffix]
		isPod := func(offset uint32) []expr.Any {
			return []expr.Any{f.load(offset, reg), &expr.Lookup{SourceRegister: reg, SetName: set.Name, SetID: set.ID}}
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

// change adds and deletes the elements that differ.
func (t *filterTable) change(conn *nftables.Conn, oldPods, pods map[netip.Addr]string, oldBridges, bridges map[string]bool) error {
	gone, fresh := map[*nftables.Set][]nftables.SetElement{}, map[*nftables.Set][]nftables.SetElement{}
	for a, owner := range oldPods {
		if pods[a] != owner {
			gone[t.pods[family(a)]] = append(gone[t.pods[family(a)]], nftables.SetElement{Key: a.AsSlice()})
		}
	}
	for a, owner := range pods {
		if was, ok := oldPods[a]; !ok || was != owner {
			fresh[t.pods[family(a)]] = append(fresh[t.pods[family(a)]], nftables.SetElement{Key: a.AsSlice(), Comment: owner})
		}
	}
	for name, closed := range bridges {
		was, ok := oldBridges[name]
		one, two := nftables.SetElement{Key: interfaceKey(name)}, nftables.SetElement{Key: append(interfaceKey(name), interfaceKey(name)...)}
		if !ok {
			fresh[t.bridges], fresh[t.same] = append(fresh[t.bridges], one), append(fresh[t.same], two)
		}
		if closed && !was {
			fresh[t.closed] = append(fresh[t.closed], two)
		}
		if was && !closed {
			gone[t.closed] = append(gone[t.closed], two)
		}
	}
	for set, list := range gone {
		if err := conn.SetDeleteElements(set, list); err != nil {
			return err
		}
	}
	for set, list := range fresh {
		if err := conn.SetAddElements(set, list); err != nil {
			return err
		}
	}
	return nil
}

// interfaceKey is a name as nf_tables compares it: IFNAMSIZ bytes, padded.
func interfaceKey(name string) []byte {
	out := make([]byte, unix.IFNAMSIZ)
	copy(out, name)
	return out
}

func interfaceOf(key []byte) string {
	return unix.ByteSliceToString(key[:min(len(key), unix.IFNAMSIZ)])
}
