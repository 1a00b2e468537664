package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// fakePlugin is one plugin, which hears of steps and refuses those that the test says.
type fakePlugin struct {
	refused []string

	mu      sync.Mutex
	heard   []string
	entered int
}

func (f *fakePlugin) hear(step string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard = append(f.heard, step)
	if f.entered == 0 {
		f.heard = append(f.heard, step+" without entering")
	}
	if slices.Contains(f.refused, step) {
		return fmt.Errorf("the plugin says no to %s", step)
	}
	return nil
}

func (f *fakePlugin) Enter() (leave func(), any bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entered++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.entered--
	}, true
}

func (f *fakePlugin) Enabled() bool { return true }

func (f *fakePlugin) Pod(_ context.Context, step PluginStep, _ *PodInfo) error {
	return f.hear(fmt.Sprint("pod ", step))
}

func (f *fakePlugin) Container(_ context.Context, step PluginStep, _ *PodInfo, _ *ContainerInfo, _ *specs.Spec) error {
	return f.hear(fmt.Sprint("container ", step))
}

func (f *fakePlugin) Adjust(context.Context, *PodInfo, *ContainerInfo, *specs.Spec) (Adjustment, error) {
	return Adjustment{Message: json.RawMessage("{}")}, f.hear("adjust")
}

func (f *fakePlugin) Apply(json.RawMessage, *specs.Spec) error { return nil }

func (f *fakePlugin) UpdatePod(context.Context, *PodInfo, *spec.Resources, *spec.Resources) error {
	return f.hear("update pod")
}

func (f *fakePlugin) Update(_ context.Context, _ *PodInfo, _ *ContainerInfo, update *spec.Resources) (*spec.Resources, error) {
	return update, f.hear("update")
}

// A plugin can refuse what begins, and not that it is taken back: it hears of that, whatever it says, and nothing is left.
func TestPluginCannotRefuseAnEnd(t *testing.T) {
	for name, c := range map[string]struct{ begin, end string }{
		"RunPod":          {fmt.Sprint("pod ", PluginRun), fmt.Sprint("pod ", PluginRemove)},
		"CreateContainer": {"adjust", fmt.Sprint("container ", PluginRemove)},
		"StartContainer":  {fmt.Sprint("container ", PluginStart), fmt.Sprint("container ", PluginStop)},
	} {
		t.Run(name, func(t *testing.T) {
			plugin := &fakePlugin{refused: []string{c.begin, c.end}}
			d := newWorld(t).start()
			d.m.base.parts.Plugins = plugin
			err := d.life(podConfig("web"), containerConfig("c"))
			if !errors.Is(err, ErrRefused) {
				t.Fatalf("got %v", err)
			}
			plugin.mu.Lock()
			heard := slices.Clone(plugin.heard)
			plugin.mu.Unlock()
			if n := len(heard); n < 2 || heard[n-2] != c.begin || heard[n-1] != c.end {
				t.Errorf("it heard %q, wanted %q and %q at the end", heard, c.begin, c.end)
			}
			if pods, containers := len(d.m.Pods(PodFilter{})), len(d.m.index.containers); name == "RunPod" && pods > 0 || name == "CreateContainer" && containers > 0 {
				t.Errorf("%d pods and %d containers are left", pods, containers)
			}
			d.settled()
		})
	}
}
