package spec

import "strings"

// Which namespace a sysctl belongs to: only those of the kernel that have a
// value of their own in a namespace, and only when the pod has that namespace
// to itself, may be set. See ipc_namespaces(7), network_namespaces(7) and
// uts_namespaces(7).
const (
	sysctlIPC = "IPC"
	sysctlNet = "network"
	sysctlUTS = "UTS"
)

// ipcSysctls are the kernel.* ones of the IPC namespace.
var ipcSysctls = map[string]bool{
	"kernel.msgmax": true, "kernel.msgmnb": true, "kernel.msgmni": true, "kernel.sem": true,
	"kernel.shmall": true, "kernel.shmmax": true, "kernel.shmmni": true, "kernel.shm_rmid_forced": true,
	"kernel.msg_next_id": true, "kernel.sem_next_id": true, "kernel.shm_next_id": true,
}

// sysctlNamespace is the namespace that a sysctl belongs to, "" for one of the
// whole machine. key is written with dots. kernel.hostname is left out: it
// would contradict the pod's hostname.
func sysctlNamespace(key string) string {
	switch {
	case ipcSysctls[key], strings.HasPrefix(key, "fs.mqueue."):
		return sysctlIPC
	case strings.HasPrefix(key, "net."):
		return sysctlNet
	case key == "kernel.domainname":
		return sysctlUTS
	default:
		return ""
	}
}

// NormalizeSysctl writes a sysctl's name with dots between its parts. Names come
// with dots or slashes; the first separator says which (sysctl(8)), so that
// "net/ipv4/conf/eth0.1/mtu" is "net.ipv4.conf.eth0/1.mtu".
func NormalizeSysctl(key string) string {
	first := strings.IndexAny(key, "./")
	if first < 0 || key[first] == '.' {
		return key
	}
	return swapSeparators(key)
}

// SysctlPath is the sysctl's path below /proc/sys; key as NormalizeSysctl gives it.
func SysctlPath(key string) string { return swapSeparators(key) }

// swapSeparators turns dots into slashes and slashes into dots.
func swapSeparators(key string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case '/':
			return '.'
		case '.':
			return '/'
		}
		return r
	}, key)
}

// validateSysctls refuses what is malformed, not namespaced, or would change
// the host because the pod shares its namespace.
func validateSysctls(sysctls map[string]string, n Namespaces) error {
	for key, value := range sysctls {
		field := "linux.sysctls[" + key + "]"
		if !validSysctlName(key) {
			return invalid(field, value, "the name must be a sysctl's: parts of letters, digits, - and _ with dots or slashes between")
		}
		if strings.ContainsAny(value, "\x00\n") {
			return invalid(field, value, "must be one line")
		}
		shared := false
		namespace := sysctlNamespace(NormalizeSysctl(key))
		switch namespace {
		case "":
			return invalid(field, value, "is not namespaced: it would change the whole node")
		case sysctlIPC:
			shared = n.IPC == NamespaceNode
		case sysctlNet, sysctlUTS:
			shared = n.Network == NamespaceNode
		}
		if shared {
			return invalid(field, value, "the pod shares the node's %s namespace: it would change the whole node", namespace)
		}
	}
	return nil
}

// validSysctlName refuses empty and odd parts, above all "..", as the name
// becomes a path below /proc/sys.
func validSysctlName(key string) bool {
	path := SysctlPath(NormalizeSysctl(key))
	parts := strings.Split(path, "/")
	if len(parts) < 2 || len(key) > 256 {
		return false
	}
	for _, part := range parts {
		if part == "" || strings.Trim(part, ".") == "" || strings.ContainsFunc(part, notSysctlRune) {
			return false
		}
	}
	return true
}

func notSysctlRune(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.:@%", r))
}
