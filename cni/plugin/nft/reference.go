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

// referenceTables are those that are there.
type referenceTables struct {
	list  []*nftables.Table
	until time.Time
}

// masqueradeComment is what the comments of the rules that masquerade an owner begin with.
func masqueradeComment(network, owner string) string {
	hash := func(s string) string { return fmt.Sprintf("%x", sha512.Sum512([]byte(s)))[:16] }
	return hash(network) + "-" + hash(path.Base(owner)+":"+path.Dir(owner))
}

// releaseReference deletes the rules of a table of the reference plugins whose comment is of a pod, mu held.
func (t *Tables) releaseReference(name string, ofPod func(comment string) bool) error {
	if err := t.findReference(); err != nil {
		return err
	}
	deleted := false
	for _, table := range t.reference.list {
		if table.Name != name {
			continue
		}
		for _, chain := range referenceChains[name] {
			rules, err := t.conn.GetRules(table, &nftables.Chain{Name: chain, Table: table})
			if err != nil {
				continue // no such chain, or rules that we cannot read: no reason to keep the pod
			}
			for _, r := range rules {
				comment, ok := userdata.GetString(r.UserData, userdata.TypeComment)
				if !ok || !ofPod(comment) {
					continue
				}
				r.Table, r.Chain = table, &nftables.Chain{Name: chain, Table: table}
				if err := t.conn.DelRule(r); err != nil {
					return fmt.Errorf("delete rule of nf_tables table %s: %w", name, err)
				}
				deleted = true
			}
		}
	}
	if !deleted {
		return nil
	}
	if err := t.conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) { // somebody else's plugin was quicker
		return fmt.Errorf("delete rules of nf_tables table %s: %w", name, err)
	}
	return nil
}

// findReference looks for the tables, if that is long ago.
func (t *Tables) findReference() error {
	if err := t.connect(); err != nil {
		return err
	}
	if time.Now().Before(t.reference.until) {
		return nil
	}
	all, err := t.conn.ListTables()
	if err != nil {
		return fmt.Errorf("list nf_tables tables: %w", err)
	}
	t.reference.list = slices.DeleteFunc(all, func(k *nftables.Table) bool { return referenceChains[k.Name] == nil })
	t.reference.until = time.Now().Add(referenceTTL)
	return nil
}

// releaseReferencePorts deletes what the reference plugin published of an owner.
func (t *Tables) releaseReferencePorts(owner string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	container := path.Dir(owner)
	return t.releaseReference(referenceHostPorts, func(comment string) bool { return comment == container })
}

// releaseReferenceMasquerade deletes what the reference plugins masqueraded of an owner.
func (t *Tables) releaseReferenceMasquerade(network, owner string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	begin := masqueradeComment(network, owner)
	return t.releaseReference(referenceMasquerade, func(comment string) bool { return strings.HasPrefix(comment, begin) })
}
