package cni

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/utils"
)

// errNoFiles says that the configuration directory holds no file that could be a configuration.
var errNoFiles = errors.New("no network configuration")

// network is the configuration in force.
type network struct {
	list    *libcni.NetworkConfigList
	file    string // "" for the built-in one
	builtin bool

	asJSON func() (json.RawMessage, error) // once

	check   sync.Once
	invalid error            // what our plugins have against it; ready returns it
	foreign map[string]error // types of ours whose configuration here is the reference plugin's matter, and why
}

func newNetwork(list *libcni.NetworkConfigList, file string) *network {
	return &network{list: list, file: file, builtin: file == "", asJSON: sync.OnceValues(func() (json.RawMessage, error) { return listJSON(list) })}
}

// json is the list with what lay in other files put in.
func (n *network) json() (json.RawMessage, error) { return n.asJSON() }

func (n *network) String() string {
	if n.builtin {
		return fmt.Sprintf("built-in network %q", n.list.Name)
	}
	return fmt.Sprintf("network %q of %s", n.list.Name, n.file)
}

// confDir reads the configuration directory, anew when it is not as it was. Looking costs one readdir and a stat a file, so
// everybody looks who uses it; no change is missed, whether or not an event came.
type confDir struct {
	dir string

	mu      sync.Mutex
	seen    [sha256.Size]byte
	looked  bool
	current *network
	skipped []error
	err     error
	changed func(n *network, skipped []error, err error) // called with every new state, mu held
}

// get returns the first valid configuration; errNoFiles when there is no file.
func (c *confDir) get() (*network, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.fingerprint()
	if c.looked && now == c.seen {
		return c.current, c.err
	}
	c.seen, c.looked = now, true
	c.current, c.skipped, c.err = load(c.dir)
	if c.changed != nil {
		c.changed(c.current, c.skipped, c.err)
	}
	return c.current, c.err
}

// fingerprint tells two states of the directory and of the folders in it apart, by names, inodes, sizes and times.
func (c *confDir) fingerprint() [sha256.Size]byte {
	h := sha256.New()
	var add func(dir string, depth int)
	add = func(dir string, depth int) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			fmt.Fprintf(h, "%v\n", err)
			return
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			info, err := os.Stat(path) // behind links: ConfigMap volumes are full of them
			if err != nil {
				fmt.Fprintf(h, "%s %v\n", path, err)
				continue
			}
			fmt.Fprintf(h, "%s %d %d %v %v\n", path, info.Size(), info.ModTime().UnixNano(), info.Mode(), inode(info))
			if info.IsDir() && depth > 0 {
				add(path, depth-1) // a list's plugins may lie in a folder of its name
			}
		}
	}
	add(c.dir, 1)
	return [sha256.Size]byte(h.Sum(nil))
}

// load returns the first valid configuration of a directory, and why the files before it are none.
func load(dir string) (*network, []error, error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read network configuration: %w", err)
	}
	var skipped []error
	for _, e := range entries {
		if e.IsDir() || !isConf(e.Name()) {
			continue
		}
		file := filepath.Join(dir, e.Name())
		list, err := loadFile(file)
		if err == nil {
			return newNetwork(list, file), skipped, nil
		}
		skipped = append(skipped, fmt.Errorf("network configuration %s: %w", file, err))
	}
	if len(skipped) > 0 {
		return nil, nil, errors.Join(skipped...)
	}
	return nil, nil, fmt.Errorf("%w in %s", errNoFiles, dir)
}

func isConf(name string) bool {
	switch filepath.Ext(name) {
	case ".conflist", ".conf", ".json":
		return true
	}
	return false
}

func loadFile(file string) (*libcni.NetworkConfigList, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	list, err := parseList(filepath.Base(file), data)
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(file, ".conflist") && !list.LoadOnlyInlinedPlugins {
		more, err := libcni.NetworkPluginConfsFromFiles(filepath.Dir(file), list.Name)
		if err != nil {
			return nil, err
		}
		list.Plugins = append(list.Plugins, more...)
	}
	if len(list.Plugins) == 0 {
		return nil, errors.New("plugins: none")
	}
	return list, nil
}

// parseList reads a list of plugins, or from a file of another name than *.conflist a single one.
func parseList(name string, data []byte) (*libcni.NetworkConfigList, error) {
	var list *libcni.NetworkConfigList
	var err error
	if strings.HasSuffix(name, ".conflist") {
		list, err = libcni.NetworkConfFromBytes(data)
	} else {
		list, err = parseSingle(data)
	}
	if err != nil {
		return nil, err
	}
	if err := utils.ValidateNetworkName(list.Name); err != nil {
		return nil, fmt.Errorf("name %q: %w", list.Name, err)
	}
	return list, nil
}

// parseSingle makes a list of a plugin that stands for itself, the form from before there were lists.
func parseSingle(data []byte) (*libcni.NetworkConfigList, error) {
	conf, err := libcni.NetworkPluginConfFromBytes(data)
	if err != nil {
		return nil, err
	}
	list := map[string]any{"plugins": []json.RawMessage{data}, "loadOnlyInlinedPlugins": true}
	if conf.Network.Name != "" {
		list["name"] = conf.Network.Name
	}
	if conf.Network.CNIVersion != "" {
		list["cniVersion"] = conf.Network.CNIVersion
	}
	whole, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	return libcni.NetworkConfFromBytes(whole)
}
