package kubelet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// varLib is where kubelet keeps its device plugins' socket, wherever else it is told to have its files.
const varLib = "/var/lib/kubelet"

// tunables are what kubelet sets of the kernel (setupKernelTunables of its container manager).
var tunables = []string{
	"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
}

// machine is what kubelet changes of the machine, as it was.
type machine struct {
	values map[string][]byte // by path in /proc/sys
}

// remember looks at the machine. It is an error when a kubelet has its files here already: two would take each other's.
func remember() (*machine, error) {
	if _, err := os.Stat(varLib); !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is a kubelet on this machine already, or was: %s is there (%v)", varLib, err)
	}
	m := &machine{values: map[string][]byte{}}
	for _, name := range tunables {
		value, err := os.ReadFile(filepath.Join("/proc/sys", name))
		if err != nil {
			return nil, fmt.Errorf("read tunable: %w", err)
		}
		m.values[name] = value
	}
	return m, nil
}

// restore changes back what differs, and removes kubelet's directory.
func (m *machine) restore() error {
	errs := []error{os.RemoveAll(varLib)}
	for name, old := range m.values {
		path := filepath.Join("/proc/sys", name)
		now, err := os.ReadFile(path)
		if err == nil && string(now) != string(old) {
			err = os.WriteFile(path, []byte(strings.TrimSpace(string(old))), 0o644)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
