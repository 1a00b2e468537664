package nft

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/google/nftables"
)

// mirrors are the daemon's tables, as far as anybody has asked for them. Their caller holds Tables.mu.
type mirrors struct {
	prefix string
	kernel *kernel
	open   map[string]*table // by name
	all    bool              // open has all that were in the kernel before us; who comes later, we made
}

func (m *mirrors) name(network string) string {
	sum := sha256.Sum256([]byte(network))
	return m.prefix + "-" + hex.EncodeToString(sum[:4])
}

// table returns a table's mirror, read from the kernel at first.
func (m *mirrors) table(name string) (*table, error) {
	if err := m.kernel.connect(); err != nil {
		return nil, err
	}
	if open := m.open[name]; open != nil {
		return open, nil
	}
	fresh := newTable(name)
	if err := fresh.read(m.kernel.conn); err != nil {
		return nil, err
	}
	m.open[name] = fresh
	return fresh, nil
}

// readAll opens the daemon's tables that are in the kernel and not yet mirrored.
func (m *mirrors) readAll() error {
	if m.all {
		return nil
	}
	if err := m.kernel.connect(); err != nil {
		return err
	}
	list, err := m.kernel.conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return fmt.Errorf("list nf_tables tables: %w", err)
	}
	for _, k := range list {
		if rest, ok := strings.CutPrefix(k.Name, m.prefix+"-"); ok && !strings.Contains(rest, "-") {
			if _, err := m.table(k.Name); err != nil {
				return err
			}
		}
	}
	m.all = true
	return nil
}

// taken holds an owner's ports against those of all tables. A port on all addresses and one on a single address exclude each other, as
// they do for bind(2) and for the Kubernetes scheduler.
func (m *mirrors) taken(owner string, ports []Port) error {
	if len(ports) == 0 {
		return nil
	}
	if err := m.readAll(); err != nil {
		return err
	}
	for _, p := range ports {
		for _, tab := range m.open {
			if holder := tab.holder(p); holder != "" && holder != owner {
				return &TakenError{Port: p, Holder: holder}
			}
		}
	}
	return nil
}
