package nft

import (
	"crypto/sha512"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// The reference plugins' tables (containernetworking/plugins 1.9, backend nftables): a rule a pod and address, with a comment that tells whose it
// is. A pod that they attached is released here, so their rules go too.
const (
	referenceMasquerade = "cni_plugins_masquerade"
	referenceHostPorts  = "cni_hostport"

	// referenceTTL is how long it is believed that they have no tables here, which is so on most nodes.
	referenceTTL = 10 * time.Second
)

var referenceChains = map[string][]string{
	referenceMasquerade: {"masq_checks"},
	referenceHostPorts:  {"hostports", "hostip_hostports", "masquerading"},
}

// reference is those tables, as far as they are there. Its caller holds Tables.mu.
type reference struct {
	kernel *kernel
	list   []*nftables.Table
	nat    []*nftables.Table // of iptables
	until  time.Time
}

// masqueradeComment is what the comments of the rules that masquerade an owner begin with.
func masqueradeComment(network, owner string) string {
	hash := func(s string) string { return fmt.Sprintf("%x", sha512.Sum512([]byte(s)))[:16] }
	return hash(network) + "-" + hash(path.Base(owner)+":"+path.Dir(owner))
}

// release deletes the rules of a table whose comment is of a pod.
func (r *reference) release(name string, ofPod func(comment string) bool) error {
	if err := r.find(); err != nil {
		return err
	}
	deleted := false
	for _, table := range r.list {
		if table.Name != name {
			continue
		}
		for _, chain := range referenceChains[name] {
			rules, err := r.kernel.conn.GetRules(table, &nftables.Chain{Name: chain, Table: table})
			if err != nil {
				continue // no such chain, or rules that we cannot read: no reason to keep the pod
			}
			for _, rule := range rules {
				comment, ok := userdata.GetString(rule.UserData, userdata.TypeComment)
				if !ok || !ofPod(comment) {
					continue
				}
				rule.Table, rule.Chain = table, &nftables.Chain{Name: chain, Table: table}
				if err := r.kernel.conn.DelRule(rule); err != nil {
					return fmt.Errorf("delete rule of nf_tables table %s: %w", name, err)
				}
				deleted = true
			}
		}
	}
	if !deleted {
		return nil
	}
	if err := r.kernel.conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) { // somebody else's plugin was quicker
		return fmt.Errorf("delete rules of nf_tables table %s: %w", name, err)
	}
	return nil
}

// find looks for the tables, if that is long ago.
func (r *reference) find() error {
	if err := r.kernel.connect(); err != nil {
		return err
	}
	if time.Now().Before(r.until) {
		return nil
	}
	all, err := r.kernel.conn.ListTables()
	if err != nil {
		return fmt.Errorf("list nf_tables tables: %w", err)
	}
	r.nat = slices.DeleteFunc(slices.Clone(all), func(k *nftables.Table) bool { return k.Name != natTable || !ofIPTables(k) })
	r.list = slices.DeleteFunc(all, func(k *nftables.Table) bool { return referenceChains[k.Name] == nil })
	r.until = time.Now().Add(referenceTTL)
	return nil
}

// releasePorts deletes what the reference plugin published of an owner.
func (r *reference) releasePorts(network, owner string) error {
	container := path.Dir(owner)
	err := r.release(referenceHostPorts, func(comment string) bool { return comment == container })
	return errors.Join(err, r.releaseChain("CNI-HOSTPORT-DNAT", chainOf("CNI-DN-", network, container)))
}

// releaseMasquerade deletes what the reference plugins masqueraded of an owner.
func (r *reference) releaseMasquerade(network, owner string) error {
	begin := masqueradeComment(network, owner)
	err := r.release(referenceMasquerade, func(comment string) bool { return strings.HasPrefix(comment, begin) })
	return errors.Join(err, r.releaseChain("POSTROUTING", chainOf("CNI-", network, path.Dir(owner))))
}
