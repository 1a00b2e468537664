//go:build tools

// Package containerd pins the containerd that berth is compared with, and its shim. It is a module of its own,
// so that none of their dependencies reach berth's.
package containerd

import (
	_ "github.com/containerd/containerd/v2/cmd/containerd"
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"
)
