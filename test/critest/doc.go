// Package critest runs the acceptance suite of the CRI (sigs.k8s.io/cri-tools, unmodified, as bin/critest)
// against a daemon of its own and the loopback registry: serially, in parallel, and its benchmark.
//
// A test of the suite that fails fails here. So does one that is skipped, unless it is in the list of those that
// can't run, with the reason. BERTH_CRITEST_FOCUS is a regular expression of the names to run, for one at a time.
package critest
