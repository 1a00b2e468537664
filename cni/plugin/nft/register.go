package nft

import (
	"errors"
	"fmt"
	"maps"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// entry is an element of a set.
type entry struct{ set, key string }

// register is a table with static rules, whose sets' elements have owners: their comments. It mirrors them in memory: read once, then kept.
// Its caller holds a lock.
type register struct {
	kernel *kernel
	table  *nftables.Table
	sets   map[string]*nftables.Set
	rules  func(*nftables.Conn) // adds the table's chains and rules

	have map[entry]string // by entry: the owner, "" for what is nobody's and goes with the table
	read bool
	live bool // the kernel has the table
}

// open reads the table, once.
func (r *register) open() error {
	if err := r.kernel.connect(); err != nil || r.read {
		return err
	}
	r.have, r.live = map[entry]string{}, false
	conn := r.kernel.conn
	_, err := conn.ListTableOfFamily(r.table.Name, r.table.Family)
	// A kernel without the table's family has no such table either, and is nobody's mistake until one is wanted.
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
		r.read = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up nf_tables table %s: %w", r.table.Name, err)
	}
	for name, set := range r.sets {
		list, err := conn.GetSetElements(set)
		if err != nil {
			return fmt.Errorf("read nf_tables set %s of %s: %w", name, r.table.Name, err)
		}
		for _, e := range list {
			r.have[entry{name, string(e.Key)}] = e.Comment
		}
	}
	r.read, r.live = true, true
	return nil
}

// change gives entries owners, and takes those away that keep does not want, in one transaction. When the kernel's table is not what the
// mirror says (ENOENT: somebody flushed the rule set), it is written whole.
func (r *register) change(add map[entry]string, keep func(entry, string) bool) error {
	if err := r.open(); err != nil {
		return err
	}
	for _, owner := range add {
		if len(owner) > maxComment {
			return fmt.Errorf("owner %q is longer than a comment of nf_tables", owner)
		}
	}
	next := maps.Clone(r.have)
	if keep != nil {
		maps.DeleteFunc(next, func(e entry, owner string) bool { return !keep(e, owner) })
	}
	maps.Copy(next, add)
	if r.live && maps.Equal(next, r.have) || !r.live && len(next) == 0 {
		return nil
	}
	err := r.transact(next)
	if errors.Is(err, unix.ENOENT) && r.live {
		r.live, r.have = false, map[entry]string{}
		err = r.transact(next)
	}
	if err != nil {
		return fmt.Errorf("change nf_tables table %s: %w", r.table.Name, err)
	}
	r.live, r.have = true, next
	return nil
}

func (r *register) transact(next map[entry]string) error {
	if err := r.kernel.connect(); err != nil {
		return err
	}
	conn := r.kernel.conn
	if !r.live {
		conn.AddTable(r.table)
		for _, s := range r.sets {
			if err := conn.AddSet(s, nil); err != nil {
				panic(err) // only for anonymous sets and lengths that are ours
			}
		}
		r.rules(conn)
	}
	gone, fresh := map[string][]nftables.SetElement{}, map[string][]nftables.SetElement{}
	for e, owner := range r.have {
		if now, ok := next[e]; !ok || now != owner {
			gone[e.set] = append(gone[e.set], nftables.SetElement{Key: []byte(e.key)})
		}
	}
	for e, owner := range next {
		if was, ok := r.have[e]; !ok || was != owner {
			fresh[e.set] = append(fresh[e.set], nftables.SetElement{Key: []byte(e.key), Comment: owner})
		}
	}
	for name, list := range gone {
		if err := conn.SetDeleteElements(r.sets[name], list); err != nil {
			return err
		}
	}
	for name, list := range fresh {
		if err := conn.SetAddElements(r.sets[name], list); err != nil {
			return err
		}
	}
	return r.flush()
}

func (r *register) flush() error {
	err := r.kernel.conn.Flush()
	if err != nil {
		_ = r.kernel.close() // answers to the failed batch may still be queued
	}
	return err
}

// holds asks the kernel, not the mirror, whether an entry is an owner's.
func (r *register) holds(e entry, owner string) (bool, error) {
	r.read = false
	if err := r.open(); err != nil {
		return false, err
	}
	have, ok := r.have[e]
	return ok && have == owner, nil
}

// prune removes the table when no entry has an owner. It says whether it did.
func (r *register) prune() (bool, error) {
	if err := r.open(); err != nil || !r.live {
		return false, err
	}
	for _, owner := range r.have {
		if owner != "" {
			return false, nil
		}
	}
	r.kernel.conn.DelTable(r.table)
	if err := r.flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return false, fmt.Errorf("delete nf_tables table %s: %w", r.table.Name, err)
	}
	r.live, r.have = false, map[entry]string{}
	return true, r.kernel.connect()
}

// notOf keeps what is not the owner's.
func notOf(owner string) func(entry, string) bool {
	return func(_ entry, o string) bool { return o != owner }
}

// within keeps what is of valid owners, and what is nobody's.
func within(valid map[string]bool) func(entry, string) bool {
	return func(_ entry, o string) bool { return o == "" || valid[o] }
}

// interfaceKey is a name as nf_tables compares it: IFNAMSIZ bytes, padded.
func interfaceKey(name string) string {
	out := make([]byte, unix.IFNAMSIZ)
	copy(out, name)
	return string(out)
}
