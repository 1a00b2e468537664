package hostdevice

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-runtime/berth/cni/plugin"
)

// sysfs is a mounted sysfs. What of an interface it shows is what belongs to the namespace of who mounted it: the host.
type sysfs string

// userspaceDrivers leave a device to a program (DPDK), and make no interface of it.
var userspaceDrivers = []string{"vfio-pci", "uio_pci_generic", "igb_uio"}

func (s sysfs) pci(id string) string { return filepath.Join(string(s), "bus/pci/devices", id) }

func (s sysfs) auxiliary(id string) string {
	return filepath.Join(string(s), "bus/auxiliary/devices", id)
}

// place is a device's folder, and the key that led there.
type place struct{ key, folder string }

// place is where the configuration says that a device is; the folder is "" when it goes by name or MAC address.
func (s sysfs) place(conf *config) (place, error) {
	switch {
	case conf.Device != "" || conf.mac != nil:
		return place{}, nil
	case conf.KernelPath != "":
		return place{"kernelpath", filepath.Join(string(s), strings.TrimPrefix(conf.KernelPath, "/sys"))}, nil
	case conf.RuntimeConfig.DeviceID == "":
		return place{"pciBusID", s.pci(conf.PCIBusID)}, nil
	}
	const key = "runtimeConfig.deviceID"
	for _, folder := range []string{s.pci(conf.RuntimeConfig.DeviceID), s.auxiliary(conf.RuntimeConfig.DeviceID)} {
		if _, err := os.Stat(folder); err == nil {
			return place{key, folder}, nil
		}
	}
	return place{}, plugin.Keyf(key, "%s: %w", conf.RuntimeConfig.DeviceID, ErrNoDevice)
}

// userspace says whether a program has the device, and it has no interface therefore. Only PCI devices can be so.
func (p place) userspace() bool {
	driver, err := filepath.EvalSymlinks(filepath.Join(p.folder, "driver"))
	return err == nil && p.key != "kernelpath" && slices.Contains(userspaceDrivers, filepath.Base(driver))
}

// name is the device's first interface. Those of virtio are one folder below it.
func (p place) name() (string, error) {
	folders := []string{filepath.Join(p.folder, "net")}
	if virtio, err := filepath.Glob(filepath.Join(p.folder, "virtio*", "net")); err == nil {
		folders = append(folders, virtio...)
	}
	for _, folder := range folders {
		if entries, err := os.ReadDir(folder); err == nil && len(entries) > 0 {
			return entries[0].Name(), nil
		}
	}
	return "", plugin.Keyf(p.key, "%s: %w", p.folder, ErrNoDevice)
}
