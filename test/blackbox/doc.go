// Package blackbox tests a running berth over its socket, as kubelet and crictl use
// it: each test has a daemon of its own (test/harness) and proves that nothing is left
// of it. All of it needs root and the binaries of make build tools.
package blackbox
