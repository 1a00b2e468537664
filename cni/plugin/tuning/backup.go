package tuning

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/cni/plugin"
)

// properties are those of an interface, as the reference plugin writes them down.
type properties struct {
	MAC      string `json:"mac,omitempty"`
	Promisc  *bool  `json:"promisc,omitempty"`
	MTU      int    `json:"mtu,omitempty"`
	Allmulti *bool  `json:"allmulti,omitempty"`
	TxQLen   *int   `json:"txQLen,omitempty"`
}

func (p properties) mac() (net.HardwareAddr, error) { return net.ParseMAC(p.MAC) }

// wanted are the properties that the configuration asks for.
func (c *config) wanted() properties {
	out := properties{MAC: c.MAC, MTU: c.MTU, Allmulti: c.Allmulti, TxQLen: c.TxQLen}
	if c.promisc() {
		out.Promisc = c.Promisc
	}
	return out
}

func (c *config) backup(call *plugin.Call) string {
	return filepath.Join(c.DataDir, call.Container+"_"+call.IfName+".json")
}

// save writes down what is going to change.
func save(conf *config, c *plugin.Call, l netlink.Link) error {
	now, before := l.Attrs(), properties{}
	if conf.MAC != "" {
		before.MAC = now.HardwareAddr.String()
	}
	if conf.promisc() {
		on := now.Promisc != 0
		before.Promisc = &on
	}
	if conf.MTU != 0 {
		before.MTU = now.MTU
	}
	if conf.Allmulti != nil {
		on := now.RawFlags&unix.IFF_ALLMULTI != 0
		before.Allmulti = &on
	}
	if conf.TxQLen != nil {
		before.TxQLen = &now.TxQLen
	}
	data, err := json.MarshalIndent(before, "", " ")
	if err != nil {
		return err
	}
	if err := errors.Join(os.MkdirAll(conf.DataDir, 0o700), os.WriteFile(conf.backup(c), data, 0o600)); err != nil {
		return plugin.Keyf("dataDir", "keep what %s was before: %w", c.IfName, err)
	}
	return nil
}

// load reads what save wrote. It is nil when there is nothing, or nothing that can be read: then there is nothing to put back.
func load(conf *config, c *plugin.Call) (*properties, error) {
	data, err := os.ReadFile(conf.backup(c))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what %s was before: %w", c.IfName, err)
	}
	out := &properties{}
	if json.Unmarshal(data, out) != nil {
		return nil, forget(conf, c)
	}
	return out, nil
}

func forget(conf *config, c *plugin.Call) error {
	if err := os.Remove(conf.backup(c)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forget what %s was before: %w", c.IfName, err)
	}
	return nil
}
