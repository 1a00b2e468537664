package tuning

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/berth-runtime/berth/cni/plugin"
)

const (
	defaultDataDir = "/run/cni/tuning"
	allowlistFile  = "/etc/cni/tuning/allowlist.conf"
)

// ErrNotAllowed says that the node does not allow a variable to be set.
var ErrNotAllowed = errors.New("is not allowed on this node")

// settings are what the configuration asks for; nil or zero leaves a property alone.
type settings struct {
	Sysctl   map[string]string `json:"sysctl"`
	MAC      string            `json:"mac"`
	Promisc  *bool             `json:"promisc"`
	MTU      int               `json:"mtu"`
	TxQLen   *int              `json:"txQLen"`
	Allmulti *bool             `json:"allmulti"`
}

type config struct {
	DataDir       string     `json:"dataDir"`
	settings      `json:"-"` // read by itself: an error names its keys as they are written
	RuntimeConfig struct {
		MAC string `json:"mac"`
	} `json:"runtimeConfig"`
	Args struct {
		CNI settings `json:"cni"`
	} `json:"args"`

	mac net.HardwareAddr
}

func parse(c *plugin.Call) (*config, error) {
	conf := &config{DataDir: defaultDataDir}
	if err := plugin.Decode(c.Config, conf); err != nil {
		return nil, err
	}
	if err := plugin.Decode(c.Config, &conf.settings); err != nil {
		return nil, err
	}
	if err := uniqueSysctls(c.Config); err != nil {
		return nil, err
	}
	if conf.DataDir == "" {
		conf.DataDir = defaultDataDir
	}
	key := "mac"
	if mac := c.Arg("MAC"); mac != "" {
		conf.MAC, key = mac, "MAC in CNI_ARGS"
	}
	if mac := conf.RuntimeConfig.MAC; mac != "" {
		conf.MAC, key = mac, "runtimeConfig.mac"
	}
	if conf.Args.CNI.MAC != "" {
		key = "args.cni.mac"
	}
	conf.overlay(conf.Args.CNI)
	switch {
	case conf.MTU < 0:
		return nil, plugin.Keyf("mtu", "%d is negative", conf.MTU)
	case conf.TxQLen != nil && *conf.TxQLen < 0:
		return nil, plugin.Keyf("txQLen", "%d is negative", *conf.TxQLen)
	}
	if conf.MAC == "" {
		return conf, nil
	}
	mac, err := net.ParseMAC(conf.MAC)
	if err != nil {
		return nil, plugin.Keyf(key, "%w", err)
	}
	conf.mac = mac
	return conf, nil
}

// overlay takes what o sets.
func (s *settings) overlay(o settings) {
	if s.Sysctl == nil {
		s.Sysctl = map[string]string{}
	}
	for k, v := range o.Sysctl {
		s.Sysctl[k] = v
	}
	if o.MAC != "" {
		s.MAC = o.MAC
	}
	if o.Promisc != nil {
		s.Promisc = o.Promisc
	}
	if o.MTU != 0 {
		s.MTU = o.MTU
	}
	if o.TxQLen != nil {
		s.TxQLen = o.TxQLen
	}
	if o.Allmulti != nil {
		s.Allmulti = o.Allmulti
	}
}

func (s *settings) promisc() bool { return s.Promisc != nil && *s.Promisc }

// changesLink says whether anything of the interface itself is to change.
func (s *settings) changesLink() bool {
	return s.MAC != "" || s.MTU != 0 || s.promisc() || s.Allmulti != nil || s.TxQLen != nil
}

// uniqueSysctls refuses a variable that is set twice, of which JSON would take the last.
func uniqueSysctls(config []byte) error {
	raw := struct {
		Sysctl json.RawMessage `json:"sysctl"`
	}{}
	if err := plugin.Decode(config, &raw); err != nil || len(raw.Sysctl) == 0 {
		return err
	}
	seen := map[string]bool{}
	words := json.NewDecoder(strings.NewReader(string(raw.Sysctl)))
	for i := 0; ; i++ {
		word, err := words.Token()
		if err != nil {
			return nil // its end: it was read before
		}
		name, isText := word.(string)
		if !isText || i%2 == 0 { // {, name, value, name, value … }
			continue
		}
		if seen[name] {
			return plugin.Keyf("sysctl."+name, "is set twice")
		}
		seen[name] = true
	}
}

// variable is the path of a variable below /proc/sys. IFNAME in a name stands for the container's interface.
func variable(name, ifName string) (string, error) {
	path := filepath.Clean(strings.Replace(strings.ReplaceAll(name, ".", "/"), "IFNAME", ifName, 1))
	if !strings.HasPrefix(path, "net/") {
		return "", plugin.Keyf("sysctl."+name, "is not a variable of the network")
	}
	return path, nil
}

// allowed holds the variables against the node's list.
func (s *settings) allowed(file string) error {
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read list of allowed sysctls: %w", err)
	}
	var list []*regexp.Regexp
	for line := range strings.SplitSeq(string(data), "\n") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		expr, err := regexp.Compile(line)
		if err != nil {
			return fmt.Errorf("read %s: %w", file, err)
		}
		list = append(list, expr)
	}
	for name := range s.Sysctl {
		ok := false
		for _, expr := range list {
			ok = ok || expr.MatchString(name)
		}
		if !ok {
			return plugin.Keyf("sysctl."+name, "%w, see %s", ErrNotAllowed, file)
		}
	}
	return nil
}
