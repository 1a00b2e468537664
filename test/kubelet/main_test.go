package kubelet

import (
	"testing"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
	"github.com/berth-runtime/berth/test/registry"
)

// start runs a node that pulls from a registry of its own.
func start(t *testing.T, gates map[string]bool) *Node {
	t.Helper()
	return startWith(t, "", gates)
}

// startWith has more in the daemon's configuration.
func startWith(t *testing.T, config string, gates map[string]bool) *Node {
	t.Helper()
	harness.NeedRoot(t)
	program(t) // skips before anything is built
	server, builder, err := registry.StartFull()
	if err != nil {
		t.Fatal(err)
	}
	health, err := builder.Health()
	if err == nil {
		err = server.Push(health...)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return Start(t, harness.Start(t, harness.Options{Registry: server, Pull: []string{images.Busybox}, Config: config}), gates)
}
