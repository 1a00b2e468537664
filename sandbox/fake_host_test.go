package sandbox

import (
	"context"
	"os"
	"path/filepath"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-runtime/berth/cni"
	"github.com/berth-runtime/berth/oci"
	"github.com/berth-runtime/berth/oci/cgroup"
	"github.com/berth-runtime/berth/sandbox/spec"
)

type fakeHost struct{ *daemon }

func (h fakeHost) shm(int64, *spec.UserNamespace, string) (*os.File, error) {
	if err := h.at("make shm"); err != nil {
		return nil, err
	}
	return os.Open(os.DevNull)
}

func (h fakeHost) below(mount *os.File, name string) (*os.File, error) {
	return os.Open(filepath.Join(mount.Name(), name))
}

func (h fakeHost) mappable(string, *os.File) error { return nil }

func (h fakeHost) pin(_ *os.File, path string) error {
	return h.do("pin", func() { h.pins[path] = true })
}

func (h fakeHost) unpin(path string) error {
	return h.do("unpin", func() { delete(h.pins, path) })
}

func (h fakeHost) setHostname(_ *os.File, name string) error {
	return h.do("set hostname", func() { h.hostnames = append(h.hostnames, name) })
}

func (h fakeHost) namespace(*process, specs.LinuxNamespaceType) (*os.File, error) {
	return os.Open(os.DevNull)
}

// terminal is one of the host's.
func (h fakeHost) terminal(*specs.Spec) (*oci.Terminal, error) {
	if err := h.at("make terminal"); err != nil {
		return nil, err
	}
	return oci.TerminalFor(&specs.Spec{})
}

func (h fakeHost) joinTerminal(*process, *specs.Spec) (*oci.Terminal, error) {
	return h.terminal(nil)
}

func (h fakeHost) createCgroup(path string, r *specs.LinuxResources) (*cgroup.Group, error) {
	return &cgroup.Group{}, h.do("create cgroup", func() { h.cgroups[path], h.limits[path] = true, r })
}

func (h fakeHost) markCgroup(path string) error {
	return h.do("mark cgroup", func() { h.cgroups[path] = true })
}

func (h fakeHost) innerCgroup(path string) (string, error) { return path, nil }

func (h fakeHost) cgroup(string) *cgroup.Group { return nil }

func (h fakeHost) updateCgroup(path string, r *specs.LinuxResources) (func() error, error) {
	h.mu.Lock()
	old := h.limits[path]
	h.mu.Unlock()
	return func() error { return h.do("take back", func() { h.limits[path] = old }) }, h.do("update cgroup", func() { h.limits[path] = r })
}

func (h fakeHost) killCgroup(context.Context, string) error { return h.at("kill cgroup") }

func (h fakeHost) deleteCgroup(_ context.Context, path string) error {
	return h.do("delete cgroup", func() { delete(h.cgroups, path) })
}

func (h fakeHost) oomKilled(path string) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.oom[path], nil
}

// meter measures what the test says that cgroups use; one that isn't there is gone.
func (h fakeHost) meter(path string) meter { return fakeMeter{h, path} }

type fakeMeter struct {
	host fakeHost
	path string
}

func (f fakeMeter) Close() {
	f.host.mu.Lock()
	defer f.host.mu.Unlock()
	f.host.closedMeters = append(f.host.closedMeters, f.path)
}

func (f fakeMeter) Usage() (*cgroup.Usage, error) {
	f.host.mu.Lock()
	defer f.host.mu.Unlock()
	usage, ok := f.host.usage[f.path]
	if !ok && !f.host.cgroups[f.path] {
		return nil, cgroup.ErrGone
	}
	f.host.readings[f.path]++
	out := usage
	out.At = time.Now()
	return &out, nil
}

func (f fakeMeter) Detail() (*cgroup.Detail, error) {
	usage, err := f.Usage()
	if err != nil {
		return nil, err
	}
	return &cgroup.Detail{At: usage.At, MaxTasks: usage.Tasks}, nil
}

func (h fakeHost) openNetNS(string) (*os.File, error) { return os.Open(os.DevNull) }

func (h fakeHost) counters(*os.File) ([]cni.InterfaceCounters, error) {
	return []cni.InterfaceCounters{{Name: "net1", RxBytes: 1}, {Name: "eth0", RxBytes: 2}}, h.at("count")
}

func (h fakeHost) processes(string, int) (*ProcessMetrics, error) {
	return &ProcessMetrics{At: time.Now(), Processes: 2}, h.at("look at processes")
}

func (h fakeHost) pauseBinary() (*os.File, error) { return nil, nil }

func (h fakeHost) bootID() (string, error) { return h.boot, nil }
