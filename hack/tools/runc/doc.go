//go:build tools

// Package runc pins the runc that berth is tested with as another runtime's handler. It is a module of its
// own, so that none of its dependencies reach berth's.
package runc

import _ "github.com/opencontainers/runc"
