package nft

import (
	"errors"
	"fmt"
	"net"
	"path"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// The sets of a Guard's table.
const (
	setGuarded = "ports"
	setMACs    = "macs"
)

// Guard drops what ports of bridges send from MAC addresses that are not theirs. It is safe for concurrent use.
//
// Its table is of family bridge, and has one rule: what comes by a port in the set ports, and with a source that is not in the set macs
// together with the port, is dropped before the bridge learns of it.
type Guard struct {
	mu    sync.Mutex
	table *register
}

// NewGuard keeps the table with a prefix in a network namespace, whose descriptor stays the caller's and open as long as Guard is used.
func NewGuard(netns int, prefix string) *Guard {
	table := &nftables.Table{Name: prefix + "-mac-guard", Family: nftables.TableFamilyBridge}
	sets := map[string]*nftables.Set{
		setGuarded: {Table: table, ID: 1, Name: setGuarded, KeyType: nftables.TypeIFName},
		setMACs: {
			Table: table, ID: 2, Name: setMACs, KeyType: nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeEtherAddr), Concatenation: true,
		},
	}
	prio := nftables.ChainPriority(-300) // NF_BR_PRI_NAT_DST_BRIDGED, as the reference plugin has it
	rule := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: unix.NFT_REG_1}, inSet(sets[setGuarded], unix.NFT_REG_1, false),
		&expr.Payload{DestRegister: unix.NFT_REG_2, Base: expr.PayloadBaseLLHeader, Offset: 6, Len: 6},
		inSet(sets[setMACs], unix.NFT_REG_1, true), &expr.Verdict{Kind: expr.VerdictDrop},
	}
	return &Guard{table: &register{kernel: &kernel{netns: netns}, table: table, sets: sets, rules: func(conn *nftables.Conn) {
		fillBase(conn, &nftables.Chain{
			Name: "prerouting", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: &prio,
		}, [][]expr.Any{rule})
	}}}
}

// Close gives up the connection to the kernel. The table stays.
func (g *Guard) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.table.kernel.close()
}

func guardEntries(port string, mac net.HardwareAddr) (guarded, own entry) {
	name := interfaceKey(port)
	return entry{setGuarded, name}, entry{setMACs, name + string(mac) + "\x00\x00"}
}

// Hold holds an owner's port to a MAC address. What the owner had before is given up.
func (g *Guard) Hold(owner, port string, mac net.HardwareAddr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	guarded, own := guardEntries(port, mac)
	return g.table.change(map[entry]string{guarded: owner, own: owner}, notOf(owner))
}

// Held says whether the kernel holds the owner's port to the address.
func (g *Guard) Held(owner, port string, mac net.HardwareAddr) (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	guarded, own := guardEntries(port, mac)
	ok, err := g.table.holds(own, owner)
	if err != nil || !ok {
		return false, err
	}
	return g.table.have[guarded] == owner, nil
}

// Release takes back what Hold did for the owner, or the reference bridge plugin did. It may be called any number of times.
func (g *Guard) Release(owner string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return errors.Join(g.table.change(nil, notOf(owner)), g.releaseReference(path.Dir(owner)+"-"+path.Base(owner)))
}

// Keep releases owners that are not in valid.
func (g *Guard) Keep(valid map[string]bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.table.change(nil, within(valid))
}

// Prune removes the table when nobody is in it.
func (g *Guard) Prune() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, err := g.table.prune()
	return err
}

// releaseReference deletes the rule and the two chains that the reference plugin made: pkg/link/spoofcheck.go of containernetworking/plugins.
func (g *Guard) releaseReference(id string) error {
	if err := g.table.kernel.connect(); err != nil {
		return err
	}
	conn := g.table.kernel.conn
	table := &nftables.Table{Name: "nat", Family: nftables.TableFamilyBridge}
	base := &nftables.Chain{Name: "PREROUTING", Table: table}
	rules, err := conn.GetRules(table, base)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list rules of bridge table nat: %w", err)
	}
	found := false
	for _, r := range rules {
		if comment, ok := userdata.GetString(r.UserData, userdata.TypeComment); !ok || comment != "macspoofchk-"+id {
			continue
		}
		r.Table, r.Chain = table, base
		if err := conn.DelRule(r); err != nil {
			return fmt.Errorf("delete rule of bridge table nat: %w", err)
		}
		found = true
	}
	if !found {
		return nil
	}
	for _, name := range []string{"cni-br-iface-" + id, "cni-br-iface-" + id + "-mac"} {
		c := &nftables.Chain{Name: name, Table: table}
		conn.FlushChain(c)
	}
	for _, name := range []string{"cni-br-iface-" + id, "cni-br-iface-" + id + "-mac"} {
		conn.DelChain(&nftables.Chain{Name: name, Table: table})
	}
	if err := g.table.flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete chains of bridge table nat: %w", err)
	}
	return nil
}
