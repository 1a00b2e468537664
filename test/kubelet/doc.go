// Package kubelet runs a real kubelet on berth: a node of one machine, without a control plane, that is told its pods by
// files (standalone mode, "static pods"). Its tests are what users write into a pod, and what happens to nodes.
//
//	node.go     a daemon with its kubelet: start, kill, restart
//	config.go   how kubelet is configured
//	cgroup.go   the groups that it wants to be there before it starts
//	machine.go  what it changes of the machine, changed back
//	pod.go      a pod by its manifest, and what kubelet says of it
//	client.go   kubelet's own API: pods, logs, exec, port-forward
//
// The program is built by make test-kubelet, from hack/tools/kubelet, and named by BERTH_TEST_KUBELET: it takes ten minutes of
// processor time the first time, so that no other test run waits for it.
package kubelet
