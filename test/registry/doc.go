// Package registry serves test images on loopback, under their own names: one
// server stands in for every registry host, told apart by the ns parameter that
// clients send to a mirror, and WriteCerts makes the hosts.toml directories that
// send a runtime there. Behind it is go-containerregistry's in-memory registry.
//
// It can also lie (Attack), ask for a password (RequireLogin), and it remembers
// what was asked of it (Requests).
package registry
