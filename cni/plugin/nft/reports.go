package nft

import (
	"encoding/binary"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// setGroups has the groups of ports of a Reports' table.
const setGroups = "groups"

// Reports drops what comes by ports of bridges to tell of the IPv6 multicast groups that somebody listens to (MLDv2 reports, RFC 9777). A
// bridge without snooping floods them to all its ports: a pod sends half a dozen as it starts, and with 500 others on the bridge their
// delivery took as long as all else of the pod's network. Only a router of multicast on the host would use them. It is safe for concurrent use.
//
// Its table is of family bridge, and has one rule, which knows the ports by their group (IFLA_GROUP): a kernel that can compare the bridge
// itself (NFT_BRIDGE_META) is rare.
type Reports struct {
	mu    sync.Mutex
	table *register
}

// NewReports keeps the table with a prefix in a network namespace, whose descriptor stays the caller's and open as long as Reports is used.
func NewReports(netns int, prefix string) *Reports {
	const listenerReport2 = 143 // of ICMPv6
	table := &nftables.Table{Name: prefix + "-reports", Family: nftables.TableFamilyBridge}
	groups := &nftables.Set{Table: table, ID: 1, Name: setGroups, KeyType: nftables.TypeDevGroup}
	prio := nftables.ChainPriority(-300) // NF_BR_PRI_NAT_DST_BRIDGED
	is := func(value ...byte) expr.Any {
		return &expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: value}
	}
	rule := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: unix.NFT_REG_1}, is(unix.ETH_P_IPV6>>8, unix.ETH_P_IPV6&0xff),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: unix.NFT_REG_1}, is(unix.IPPROTO_ICMPV6),
		&expr.Payload{DestRegister: unix.NFT_REG_1, Base: expr.PayloadBaseTransportHeader, Len: 1}, is(listenerReport2),
		&expr.Meta{Key: expr.MetaKeyIIFGROUP, Register: unix.NFT_REG_1}, inSet(groups, unix.NFT_REG_1, false),
		&expr.Verdict{Kind: expr.VerdictDrop},
	}
	return &Reports{table: &register{kernel: &kernel{netns: netns}, table: table, sets: map[string]*nftables.Set{setGroups: groups}, rules: func(conn *nftables.Conn) {
		fillBase(conn, &nftables.Chain{
			Name: "prerouting", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: &prio,
		}, [][]expr.Any{rule})
	}}}
}

// Close gives up the connection to the kernel. The table stays.
func (r *Reports) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.table.kernel.close()
}

// Drop drops reports that come by ports of a group, until Prune. It may be called any number of times, and asks the kernel each time: nothing
// of a pod's is in the table, whose change would tell that somebody has flushed the rule set.
func (r *Reports) Drop(group uint32) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.table.read = false
	return r.table.change(map[entry]string{{setGroups, string(binary.NativeEndian.AppendUint32(nil, group))}: ""}, nil)
}

// Prune removes the table.
func (r *Reports) Prune() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err := r.table.prune()
	return err
}
