package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// The files of a pod that its containers have in /etc.
const (
	resolvConfFile = "resolv.conf"
	hostnameFile   = "hostname"
	hostsFile      = "hosts"
)

// podFiles is the directory of a pod's files. They end with the machine, as the
// pod does.
func (c *Config) podFiles(podID string) string { return filepath.Join(c.State, "pods", podID) }

// forgetPod removes what is on disk of a pod, its record last. It may be called again.
func (ps *pods) forgetPod(p *pod) error {
	p.programs.Lock() // what is being written must not be in the way
	defer p.programs.Unlock()
	p.programs.fresh = nil
	if err := os.RemoveAll(ps.cfg.podFiles(p.id)); err != nil {
		return fmt.Errorf("remove pod files: %w", err)
	}
	if err := ps.records.removePod(p.id); err != nil {
		return err
	}
	ps.selinux.Release(p.labels)
	return nil
}

// podDirMode lets a container's processes in a user namespace reach the pod's files.
const podDirMode = 0o711

// writePodFiles writes what is known before the pod has an address, into a
// directory that it makes.
func writePodFiles(dir string, config *spec.Pod) error {
	if err := os.Mkdir(dir, podDirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make pod directory: %w", err)
	}
	name, err := hostname(config)
	if err != nil {
		return err
	}
	resolv := resolvConf(config.DNS)
	if config.DNS == nil {
		if resolv, err = fromHost("/etc/resolv.conf"); err != nil {
			return err
		}
	}
	return errors.Join(
		writePodFile(dir, hostnameFile, name+"\n", config),
		writePodFile(dir, resolvConfFile, resolv, config),
	)
}

// writeHosts writes the hosts file: the host's on its network, otherwise the
// pod's own. kubelet mounts another over it.
func writeHosts(dir string, config *spec.Pod, ips []netip.Addr) error {
	content := hosts(config.Hostname, ips)
	if config.Security.Namespaces.Network == spec.NamespaceNode {
		var err error
		if content, err = fromHost("/etc/hosts"); err != nil {
			return err
		}
	}
	return writePodFile(dir, hostsFile, content, config)
}

// writePodFile writes a file that belongs to the pod's root, and is readable for every user.
func writePodFile(dir, name, content string, config *spec.Pod) error {
	path := filepath.Join(dir, name)
	err := os.WriteFile(path, []byte(content), 0o644)
	if user := config.Security.Namespaces.OwnUser(); user != nil && err == nil {
		err = os.Chown(path, int(rootOf(user.UIDs)), int(rootOf(user.GIDs)))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// fromHost is the content of a file of the host, nothing when it has none.
func fromHost(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("copy %s: %w", path, err)
	}
	return string(b), nil
}

// hostname is the name that the pod's processes see.
func hostname(config *spec.Pod) (string, error) {
	if config.Hostname != "" && config.Security.Namespaces.Network != spec.NamespaceNode {
		return config.Hostname, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("read hostname: %w", err)
	}
	return name, nil
}

// resolvConf is a resolv.conf(5).
func resolvConf(dns *spec.DNS) string {
	if dns == nil {
		return ""
	}
	var b strings.Builder
	if len(dns.Searches) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(dns.Searches, " "))
	}
	for _, s := range dns.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(dns.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(dns.Options, " "))
	}
	return b.String()
}

// hosts is a hosts(5) for a pod with these addresses.
func hosts(name string, ips []netip.Addr) string {
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	for _, ip := range ips {
		if name != "" {
			fmt.Fprintf(&b, "%s\t%s\n", ip, name)
		}
	}
	return b.String()
}
