package cni

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/cni/plugin/link"
)

// generation counts the transactions that nf_tables has seen in a namespace (NFT_MSG_GETGEN).
func generation(t testing.TB, host *link.Space) uint32 {
	t.Helper()
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: host.FD()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	answers, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN), Flags: netlink.Request},
		Data:   make([]byte, 4),
	})
	if err != nil || len(answers) == 0 {
		t.Fatalf("%v, %v", answers, err)
	}
	attrs, err := netlink.UnmarshalAttributes(answers[0].Data[4:])
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range attrs {
		if a.Type == unix.NFTA_GEN_ID {
			return binary.BigEndian.Uint32(a.Data)
		}
	}
	t.Fatal("no generation")
	return 0
}

// ruleCount is how many rules and chains nf_tables has.
func ruleCount(t testing.TB, host *link.Space) int {
	t.Helper()
	conn, err := nftables.New(nftables.WithNetNSFd(host.FD()))
	if err != nil {
		t.Fatal(err)
	}
	chains, err := conn.ListChains()
	if err != nil {
		t.Fatal(err)
	}
	count := len(chains)
	for _, c := range chains {
		rules, err := conn.GetRules(c.Table, c)
		if err != nil {
			t.Fatal(err)
		}
		count += len(rules)
	}
	return count
}

// TestRootOneTransactionAPod holds a pod with ports of all protocols, in both families and masqueraded, to one transaction for its ADD and
// one for its DEL, and the rules to a number that does not grow with the pods.
func TestRootOneTransactionAPod(t *testing.T) {
	w := newWorld(t, nil)
	ports := func(i int) []PortMapping {
		at := int32(9000 + 10*i)
		return []PortMapping{
			{HostPort: at, ContainerPort: 80}, {HostPort: at + 1, ContainerPort: 53, Protocol: "UDP"},
			{HostPort: at + 2, ContainerPort: 1, Protocol: "SCTP", HostIP: "10.88.0.1"},
		}
	}
	first := w.pod(t, "first", ports(0)...) // with the table
	rules := ruleCount(t, w.host)
	var pods []*pod
	for i := range 20 {
		before := generation(t, w.host)
		pods = append(pods, w.pod(t, fmt.Sprintf("p%d", i), ports(i+1)...))
		if got := generation(t, w.host) - before; got != 1 {
			t.Fatalf("ADD of pod %d: %d transactions", i, got)
		}
	}
	if got := ruleCount(t, w.host); got != rules {
		t.Errorf("%d rules and chains with one pod, %d with 21", rules, got)
	}
	for i, p := range append(pods, first) {
		before := generation(t, w.host)
		w.del(t, p.Attachment)
		if got := generation(t, w.host) - before; got != 1 {
			t.Fatalf("DEL of pod %d: %d transactions", i, got)
		}
	}
	w.nothingLeft(t)
}
