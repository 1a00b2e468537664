package leak

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// rules are everything in nf_tables, down to the elements of sets and maps, and the
// tables of the older iptables that are loaded.
func rules() ([]Leak, error) {
	out, err := legacyTables("/proc/net/ip_tables_names", "/proc/net/ip6_tables_names")
	if err != nil {
		return nil, err
	}
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nf_tables: %w", err)
	}
	tables, err := c.ListTables()
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	for _, t := range tables {
		name := tableName(t)
		out = append(out, Leak{"rule", name, ""})
		sets, err := setRules(c, t, name)
		if err != nil {
			return nil, err
		}
		out = append(out, sets...)
	}
	chains, err := c.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	for _, chain := range chains {
		found, err := chainRules(c, chain)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

func chainRules(c *nftables.Conn, chain *nftables.Chain) ([]Leak, error) {
	name := tableName(chain.Table) + " chain " + chain.Name
	out := []Leak{{"rule", name, ""}}
	list, err := c.GetRules(chain.Table, chain)
	if gone(err) {
		return out, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list rules of %s: %w", name, err)
	}
	for _, r := range list {
		out = append(out, Leak{"rule", fmt.Sprintf("%s handle %d", name, r.Handle), string(r.UserData)})
	}
	return out, nil
}

func setRules(c *nftables.Conn, t *nftables.Table, table string) ([]Leak, error) {
	sets, err := c.GetSets(t)
	if gone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list sets of %s: %w", table, err)
	}
	var out []Leak
	for _, s := range sets {
		name := table + " set " + s.Name
		out = append(out, Leak{"rule", name, ""})
		elements, err := c.GetSetElements(s)
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list elements of %s: %w", name, err)
		}
		for _, e := range elements {
			out = append(out, Leak{"rule", fmt.Sprintf("%s element %x", name, e.Key), fmt.Sprintf("%x", e.Val)})
		}
	}
	return out, nil
}

// gone says that a thing went between the list and the look.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || err != nil && strings.HasSuffix(err.Error(), unix.ENOENT.Error()) // GetSets tells it as text
}

func tableName(t *nftables.Table) string {
	families := map[nftables.TableFamily]string{
		nftables.TableFamilyINet: "inet", nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6",
		nftables.TableFamilyARP: "arp", nftables.TableFamilyNetdev: "netdev", nftables.TableFamilyBridge: "bridge",
	}
	return "table " + families[t.Family] + " " + t.Name
}

func legacyTables(paths ...string) ([]Leak, error) {
	var out []Leak
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue // the kernel has no such iptables, or has not loaded it
		}
		if err != nil {
			return nil, fmt.Errorf("read iptables' tables: %w", err)
		}
		for _, table := range strings.Fields(string(text)) {
			out = append(out, Leak{"rule", path + " " + table, ""})
		}
	}
	return out, nil
}
