// Package harness runs a berth of a test's own: Start gives it a root, a state
// directory, a socket, a bridge with subnets and a cgroup parent that nobody else
// has, so that several run side by side, and clients for it: CRI over gRPC and
// crictl. Kill, KillKeeper, Stop and Restart do to it what happens to daemons.
//
// When the test ends, the harness removes the pods, stops the daemon and takes a
// leak check; what is left fails the test, and is then swept away so that it fails
// only this one. The daemon's log of a failed test is kept below .cache/test-logs.
//
// It needs root and the binaries in bin/ (make build), or in BERTH_BIN. Where other
// programs work with containers and networks at the same time, BERTH_TEST_SHARED=1
// restricts the leak check to what bears the daemon's names.
package harness
