// Package apparmor asks the kernel for its AppArmor profiles, and loads the default one:
// moby's, which images are written for. It confines nothing itself: a program writes the
// profile's name before its execve.
package apparmor

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/moby/profiles/apparmor"
)

// ErrOff: the kernel has no AppArmor, or it is not enabled.
var ErrOff = errors.New("AppArmor is not enabled")

// Host is where the kernel shows what it has. The zero value is this node's.
type Host struct {
	enabled, loaded string                  // files; "": the kernel's
	load            func(name string) error // nil: apparmor_parser
}

// Enabled says whether profiles can be applied.
func (h Host) Enabled() bool {
	text, err := os.ReadFile(or(h.enabled, "/sys/module/apparmor/parameters/enabled"))
	return err == nil && strings.TrimSpace(string(text)) == "Y"
}

// Loaded says whether the kernel has a profile. ErrOff where it has none at all.
func (h Host) Loaded(name string) (bool, error) {
	if !h.Enabled() {
		return false, ErrOff
	}
	text, err := os.ReadFile(or(h.loaded, "/sys/kernel/security/apparmor/profiles"))
	if err != nil {
		return false, fmt.Errorf("list AppArmor profiles: %w", err)
	}
	for line := range strings.Lines(string(text)) { // "name (enforce)"; names may have spaces
		if at := strings.LastIndex(line, " ("); at >= 0 && line[:at] == name {
			return true, nil
		}
	}
	return false, nil
}

// LoadDefault makes sure that the kernel has a profile of that name: one that is there
// already stays as it is, otherwise the default one is loaded. It needs apparmor_parser
// for that, and ErrOff says that there is nothing to load into.
func (h Host) LoadDefault(name string) error {
	there, err := h.Loaded(name)
	if err != nil || there {
		return err
	}
	load := h.load
	if load == nil {
		load = apparmor.InstallDefault
	}
	if err := load(name); err != nil {
		return fmt.Errorf("load AppArmor profile %s: %w", name, err)
	}
	return nil
}

func or(path, otherwise string) string {
	if path == "" {
		return otherwise
	}
	return path
}
