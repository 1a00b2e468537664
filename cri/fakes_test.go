package cri

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/berth-runtime/berth/imagestore"
	"github.com/berth-runtime/berth/sandbox"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// fakeRooms stands for the sandbox and the image store: it notes the calls, and
// answers with what it was given.
type fakeRooms struct {
	calls      []any // of each call its name and arguments
	err        error // of every method that has one
	pods       []*sandbox.PodInfo
	containers []*sandbox.ContainerInfo
	podDetails *sandbox.PodDetails
	details    *sandbox.ContainerDetails
	images     []*imagestore.Image
	exec       sandbox.ExecResult
	network    error
	driver     string
	imported   []byte
	panics     bool
	events     chan *sandbox.Event
	measured   *sandbox.PodMetrics
}

func (f *fakeRooms) note(args ...any) error {
	if f.panics {
		panic("the fake was told to")
	}
	f.calls = append(f.calls, args)
	return f.err
}

func (f *fakeRooms) RunPod(_ context.Context, pod *spec.Pod) (string, error) {
	return "pod-1", f.note("RunPod", pod)
}
func (f *fakeRooms) UpdatePod(_ context.Context, id string, overhead, resources *spec.Resources) error {
	return f.note("UpdatePod", id, overhead, resources)
}
func (f *fakeRooms) CheckpointContainer(_ context.Context, id, location string, timeout time.Duration) error {
	return f.note("CheckpointContainer", id, location, timeout)
}
func (f *fakeRooms) CheckpointPod(_ context.Context, id, output string, containers []string) error {
	return f.note("CheckpointPod", id, output, containers)
}
func (f *fakeRooms) RestorePod(_ context.Context, dir string, pod *spec.Pod, containers []*spec.Container) (string, []sandbox.RestoredContainer, error) {
	return "pod-1", []sandbox.RestoredContainer{{Name: containers[0].Metadata.Name, ID: "c-1"}}, f.note("RestorePod", dir, pod, containers)
}
func (f *fakeRooms) StopPod(_ context.Context, id string) error   { return f.note("StopPod", id) }
func (f *fakeRooms) RemovePod(_ context.Context, id string) error { return f.note("RemovePod", id) }
func (f *fakeRooms) Pod(id string) (*sandbox.PodInfo, []*sandbox.ContainerInfo, error) {
	if err := f.note("Pod", id); err != nil {
		return nil, nil, err
	}
	for _, p := range f.pods {
		if p.ID == id {
			return p, f.containers, nil
		}
	}
	return nil, nil, fmt.Errorf("pod %s: %w", id, sandbox.ErrNotFound)
}
func (f *fakeRooms) PodDetails(id string) (*sandbox.PodDetails, error) {
	if f.podDetails == nil {
		f.podDetails = &sandbox.PodDetails{}
	}
	return f.podDetails, f.note("PodDetails", id)
}
func (f *fakeRooms) ContainerDetails(id string) (*sandbox.ContainerDetails, error) {
	if f.details == nil {
		f.details = &sandbox.ContainerDetails{}
	}
	return f.details, f.note("ContainerDetails", id)
}
func (f *fakeRooms) Pods(filter sandbox.PodFilter) []*sandbox.PodInfo {
	_ = f.note("Pods", filter)
	return f.pods
}
func (f *fakeRooms) Events(ctx context.Context, take func(*sandbox.Event) error) error {
	for {
		select {
		case e, ok := <-f.events:
			if !ok {
				return fmt.Errorf("listen: %w", sandbox.ErrLagging)
			}
			if err := take(e); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
func (f *fakeRooms) CreateContainer(_ context.Context, pod string, c *spec.Container) (string, error) {
	return "container-1", f.note("CreateContainer", pod, c)
}
func (f *fakeRooms) StartContainer(_ context.Context, id string) error {
	return f.note("StartContainer", id)
}
func (f *fakeRooms) UpdateContainer(_ context.Context, id string, r *spec.Resources) error {
	return f.note("UpdateContainer", id, r)
}
func (f *fakeRooms) StopContainer(_ context.Context, id string, grace time.Duration) error {
	return f.note("StopContainer", id, grace)
}
func (f *fakeRooms) RemoveContainer(_ context.Context, id string) error {
	return f.note("RemoveContainer", id)
}
func (f *fakeRooms) Container(id string) (*sandbox.ContainerInfo, error) {
	if err := f.note("Container", id); err != nil {
		return nil, err
	}
	for _, c := range f.containers {
		if c.ID == id {
			return c, nil
		}
	}
	return nil, fmt.Errorf("container %s: %w", id, sandbox.ErrNotFound)
}
func (f *fakeRooms) Containers(filter sandbox.ContainerFilter) []*sandbox.ContainerInfo {
	_ = f.note("Containers", filter)
	return f.containers
}
func (f *fakeRooms) RunningContainer(id string) (string, error) {
	return "full-" + id, f.note("RunningContainer", id)
}
func (f *fakeRooms) ReadyPod(id string) (string, error) {
	return "full-" + id, f.note("ReadyPod", id)
}
func (f *fakeRooms) ReopenContainerLog(_ context.Context, id string) error {
	return f.note("ReopenContainerLog", id)
}
func (f *fakeRooms) ExecSync(_ context.Context, id string, cmd []string, timeout time.Duration) (*sandbox.ExecResult, error) {
	return &f.exec, f.note("ExecSync", id, cmd, timeout)
}
func (f *fakeRooms) ContainerStats(id string) (*sandbox.ContainerStats, error) {
	if err := f.note("ContainerStats", id); err != nil {
		return nil, err
	}
	return f.measured.Containers[0].ContainerStats, nil
}
func (f *fakeRooms) ListContainerStats(filter sandbox.ContainerFilter) (out []*sandbox.ContainerStats) {
	_ = f.note("ListContainerStats", filter)
	for _, c := range f.measured.Containers {
		out = append(out, c.ContainerStats)
	}
	return out
}
func (f *fakeRooms) PodStats(id string) (*sandbox.PodStats, error) {
	return f.measured.PodStats, f.note("PodStats", id)
}
func (f *fakeRooms) ListPodStats(filter sandbox.PodStatsFilter) []*sandbox.PodStats {
	_ = f.note("ListPodStats", filter)
	return []*sandbox.PodStats{f.measured.PodStats}
}
func (f *fakeRooms) Metrics() []*sandbox.PodMetrics {
	_ = f.note("Metrics")
	return []*sandbox.PodMetrics{f.measured}
}
func (f *fakeRooms) FilesystemStats() (*sandbox.FilesystemStats, error) {
	return &sandbox.FilesystemStats{Device: "/dev/vda", Bytes: 100, FreeBytes: 60, Inodes: 10, FreeInodes: 6}, f.note("FilesystemStats")
}
func (f *fakeRooms) Ready() sandbox.Readiness { return sandbox.Readiness{Network: f.network} }
func (f *fakeRooms) CgroupDriver() string     { return f.driver }
func (f *fakeRooms) SetPodCIDRs(cidrs []netip.Prefix) error {
	return f.note("SetPodCIDRs", cidrs)
}

// fakeImages is apart from fakeRooms, for both have methods of the same name.
type fakeImages struct{ *fakeRooms }

func (f fakeImages) Pull(_ context.Context, ref string, auth *imagestore.Auth) (*imagestore.Image, error) {
	if err := f.note("Pull", ref, auth); err != nil {
		return nil, err
	}
	return f.images[0], nil
}
func (f fakeImages) Image(ref string) (*imagestore.Image, error) {
	if err := f.note("Image", ref); err != nil {
		return nil, err
	}
	for _, i := range f.images {
		if i.ID == ref {
			return i, nil
		}
	}
	return nil, fmt.Errorf("image %s: %w", ref, imagestore.ErrNotFound)
}
func (f fakeImages) Images() []*imagestore.Image {
	_ = f.note("Images")
	return f.images
}
func (f fakeImages) Remove(_ context.Context, ref string) error { return f.note("Remove", ref) }
func (f fakeImages) Usage(context.Context) (imagestore.Usage, error) {
	return imagestore.Usage{Mountpoint: "/var/lib/berth", Bytes: 4096, Inodes: 7}, f.note("Usage")
}
func (f fakeImages) Import(_ context.Context, r io.Reader, name string) ([]*imagestore.Image, error) {
	if err := f.note("Import", name); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	f.imported = data
	return f.images, err
}

func (f fakeImages) PullProgress(string, *imagestore.Auth) []imagestore.LayerProgress {
	return []imagestore.LayerProgress{{Blob: "sha256:blob", State: imagestore.LayerPulling, Received: 5, Total: 1 << 40}}
}
func (f fakeImages) Export(_ context.Context, refs []string, w io.Writer) error {
	if err := f.note("Export", refs); err != nil {
		return err
	}
	_, err := w.Write(f.imported)
	return err
}
func (f fakeImages) Verify(_ context.Context, refs []string, repair bool, report func(imagestore.LayerCheck)) error {
	report(imagestore.LayerCheck{Image: "sha256:abc", Layer: "sha256:def", Problem: "bad", Damaged: true, Repaired: repair})
	return f.note("Verify", refs, repair)
}
