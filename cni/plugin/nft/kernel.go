package nft

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// kernel is one connection for all transactions of Tables, Filter or Guard, whose mu its caller holds.
type kernel struct {
	netns int
	conn  *nftables.Conn
}

func (k *kernel) connect() error {
	if k.conn != nil {
		return nil
	}
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(k.netns))
	if err != nil {
		return fmt.Errorf("open nf_tables socket: %w", err)
	}
	k.conn = conn
	return nil
}

func (k *kernel) close() error {
	if k.conn == nil {
		return nil
	}
	err := k.conn.CloseLasting()
	k.conn = nil
	return err
}

// retry runs a transaction. When the kernel does not have what the mirror says (ENOENT: somebody flushed the rule set), it is
// run once more with the whole table in it.
func (k *kernel) retry(tab *table, transact func() error) error {
	err := transact()
	if err == nil {
		return nil
	}
	_ = k.close() // answers to the failed batch may still be queued
	if err := k.connect(); err != nil {
		return err
	}
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	tab.live = false
	return transact()
}
