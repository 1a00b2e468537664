package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/containernetworking/cni/libcni"
)

// intent is what is known of an attachment before it is made, and until it is released: with it alone a DEL can be run that undoes
// the ADD, whatever became of the configuration, of the result and of us.
type intent struct {
	ID           string          `json:"id"`
	IfName       string          `json:"ifName"`
	NetNS        string          `json:"netns"`
	PodNamespace string          `json:"podNamespace"`
	PodName      string          `json:"podName"`
	Network      string          `json:"network"`
	File         string          `json:"file,omitempty"`
	List         json.RawMessage `json:"list"` // the plugin list, whole
	Args         [][2]string     `json:"args"`
	Capabilities map[string]any  `json:"capabilities,omitempty"`
	Ports        []PortMapping   `json:"ports,omitempty"`       // of the host
	HostNetwork  bool            `json:"hostNetwork,omitempty"` // that is all it has: it is in no other network
}

// listJSON is a plugin list with what lay in other files put in.
func listJSON(l *libcni.NetworkConfigList) (json.RawMessage, error) {
	plugins := make([]json.RawMessage, len(l.Plugins))
	for i, p := range l.Plugins {
		plugins[i] = p.Bytes
	}
	return json.Marshal(map[string]any{
		"name": l.Name, "cniVersion": l.CNIVersion, "disableCheck": l.DisableCheck, "disableGC": l.DisableGC,
		"loadOnlyInlinedPlugins": true, "plugins": plugins,
	})
}

func (i *intent) network() (*network, error) {
	list, err := libcni.NetworkConfFromBytes(i.List)
	if err != nil {
		return nil, err
	}
	return newNetwork(list, i.File), nil
}

func (i *intent) runtimeConf() *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: i.ID, NetNS: i.NetNS, IfName: i.IfName, Args: i.Args, CapabilityArgs: i.Capabilities}
}

// intents is their folder.
type intents string

func (d intents) path(id string) string { return filepath.Join(string(d), id+".json") }

func (d intents) write(i *intent) error {
	data, err := json.Marshal(i)
	if err != nil {
		return fmt.Errorf("record attachment %s: %w", i.ID, err)
	}
	if err := replaceFile(d.path(i.ID), data); err != nil {
		return fmt.Errorf("record attachment %s: %w", i.ID, err)
	}
	return nil
}

// read returns nil when there is no record, or one that a power loss tore: then the current configuration has to do.
func (d intents) read(id string) (*intent, error) {
	data, err := os.ReadFile(d.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read record of attachment %s: %w", id, err)
	}
	i := &intent{}
	if err := json.Unmarshal(data, i); err != nil || i.ID != id || i.IfName == "" {
		return nil, nil
	}
	return i, nil
}

func (d intents) remove(id string) error {
	err := os.Remove(d.path(id))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove record of attachment %s: %w", id, err)
	}
	return nil
}

// dropTorn removes what writes that were cut off have left. Nobody may be writing.
func (d intents) dropTorn() {
	left, _ := filepath.Glob(filepath.Join(string(d), "*"+newSuffix))
	for _, path := range left {
		_ = os.Remove(path) // it is in nobody's way
	}
}

func (d intents) list() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, fmt.Errorf("list attachments: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), ".json"); ok {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// newSuffix is of files that are to take the place of others.
const newSuffix = ".new"

// replaceFile gives a file new content by rename. It does not sync: after a power loss no pod is attached any more, and a torn
// record is told by its JSON.
func replaceFile(path string, data []byte) error {
	tmp := path + newSuffix
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func inode(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}
