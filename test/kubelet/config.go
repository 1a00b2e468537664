package kubelet

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// configuration is kubelet's file. What it has, and why:
//   - no API server: it is told its pods by the files of a directory, and lets anybody on loopback ask;
//   - it needs neither a machine without swap nor one with cgroup v2;
//   - it leaves alone what is not the test's: iptables, /etc/resolv.conf, other pods' logs and volume plugins;
//   - it evicts nothing and collects no image on a full machine;
//   - it restarts a container that crashed after a second, not after ten.
//
// systemCgroups must never be here: kubelet would move all of the machine's processes. The program of hack/tools/kubelet refuses
// to start with it.
const configuration = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
staticPodPath: DIR/manifests
registerNode: false
address: 127.0.0.1
port: PORT
healthzPort: 0
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
containerRuntimeEndpoint: unix://SOCKET
cgroupRoot: CGROUP
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
resolvConf: ""
makeIPTablesUtilChains: false
serializeImagePulls: false
podLogsDir: DIR/logs
volumePluginDir: DIR/volume-plugins
evictionHard: {memory.available: 1Mi, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%, imagefs.inodesFree: 0%}
imageGCHighThresholdPercent: 100
crashLoopBackOff: {maxContainerRestartPeriod: 1s}
allowedUnsafeSysctls: ["net.*"]
containerLogMaxSize: 100Ki
containerLogMaxFiles: 3
containerLogMonitorInterval: 3s
logging: {verbosity: 2}
`

// config is the file of a node whose feature gates differ from kubelet's defaults as gates says.
func (n *Node) config(gates map[string]bool) string {
	text := strings.NewReplacer("DIR", n.Dir, "PORT", fmt.Sprint(n.port), "SOCKET", n.Daemon.Socket, "CGROUP", n.cgroup).Replace(configuration)
	if len(gates) == 0 {
		return text
	}
	text += "featureGates:\n"
	for _, name := range slices.Sorted(maps.Keys(gates)) {
		text += fmt.Sprintf("  %s: %t\n", name, gates[name])
	}
	return text
}

// flags are those of what can't be in the file.
func (n *Node) flags() []string {
	return []string{
		"--config=" + n.Dir + "/config.yaml",
		"--root-dir=" + n.Dir + "/root",
		"--cert-dir=" + n.Dir + "/pki",
		"--hostname-override=" + nodeName,
	}
}

// nodeName is the end of the names of all static pods.
const nodeName = "node"
