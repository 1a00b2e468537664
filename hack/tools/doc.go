//go:build tools

// Package tools pins the programs that develop and test berth: crictl and
// staticcheck by the tool lines of go.mod, and critest, which cri-tools ships as
// a test package. It is a module of its own, so that none of their dependencies
// reach berth's.
package tools

import (
	_ "sigs.k8s.io/cri-tools/pkg/benchmark"
	_ "sigs.k8s.io/cri-tools/pkg/validate"
)
