package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/disk"
	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
	"github.com/berth-runtime/berth/test/registry"
	"github.com/berth-runtime/berth/test/rival"
)

// pullTime is what one pull may take on a busy machine.
const pullTime = 5 * time.Minute

// formats are what the large image's layers are compressed by, and how much of containerd's time berth may take.
var formats = []struct {
	name  string
	media types.MediaType
	bound float64
}{
	{"gzip", types.OCILayer, 0.6},
	{"zstd", types.OCILayerZStd, 1.0 / 3},
}

// mostMemory bounds the daemon's while it pulls, in MB.
const mostMemory = 150

// puller is a runtime whose pulls are measured.
type puller struct {
	name string

	took   []time.Duration
	cpu    []time.Duration
	memory []float64 // MB
}

// diskSize is that of the file system that one pull gets.
const diskSize = 4 << 30

// alone runs this program again in a mount namespace of its own, and returns its exit code.
func alone() int {
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Stdout, c.Stderr, c.Env = os.Stdout, os.Stderr, append(os.Environ(), aloneEnv+"=1")
	c.SysProcAttr = &unix.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGTERM}
	runtime.LockOSThread() // Pdeathsig is about the thread
	defer runtime.UnlockOSThread()
	if err := c.Run(); err != nil {
		return 1 // it has said why
	}
	return 0
}

// aloneEnv is set where alone started the process.
const aloneEnv = "BERTH_BENCH_ALONE"

// pulls has berth and containerd pull a large image from loopback, by turns, and compares them. It mounts: alone.
func pulls(b *bed, o options, r *report) {
	server, err := registry.Start()
	b.must("start registry", err)
	b.Cleanup(func() { server.Close() })
	for _, f := range formats {
		b.progress("the image in %s (made once)", f.name)
		dir, err := images.Large(f.media)
		b.must("make image", err)
		server.ServeFiles(f.name+".test", dir)
	}
	b.progress("containerd (built once)")
	for _, f := range formats {
		ours, theirs := &puller{name: "berth"}, &puller{name: "containerd"}
		for i := range o.pulls {
			for _, p := range []*puller{ours, theirs} {
				p.round(b, server, f.name+".test/large:1")
				last := len(p.took) - 1
				b.progress("%s %d: %s %v, %v of processors, %.0f MB", f.name, i+1, p.name, p.took[last], p.cpu[last], p.memory[last])
			}
		}
		comparePulls(r, f.name, f.bound, ours, theirs)
	}
}

func comparePulls(r *report, format string, bound float64, ours, theirs *puller) {
	for _, p := range []*puller{ours, theirs} {
		r.times(fmt.Sprintf("%s: pull by %s", format, p.name), p.took, 0)
		r.times("  processor time", p.cpu, 0)
	}
	median := func(p *puller) float64 { return milliseconds(percentile(p.took, 50)) }
	best := func(p *puller) float64 { return milliseconds(slices.Min(p.took)) }
	r.value(fmt.Sprintf("%s: berth's time of containerd's", format), "%.2f", median(ours)/median(theirs), bound)
	r.value("  of each one's fastest round", "%.2f", best(ours)/best(theirs), 0)
	for _, p := range []*puller{ours, theirs} {
		limit := 0.0
		if p == ours {
			limit = mostMemory
		}
		var most float64
		for _, m := range p.memory {
			most = max(most, m)
		}
		r.value(fmt.Sprintf("%s: most memory of %s, RSS", format, p.name), "%.0f MB", most, limit)
	}
}

// start runs a daemon.
func (p *puller) start(b *bed, server *registry.Server) (pid int, images cri.ImageServiceClient) {
	if p.name == "berth" {
		d := harness.Start(b, harness.Options{Registry: server, Flags: []string{"--log-level=warn"}})
		return d.PID(), d.Images
	}
	c := rival.Start(b, rival.Options{Registry: server})
	return c.PID(), c.Images
}

// freshDisk has everything temporary of what is started from now on to b's end on a new ext4: on one where files were deleted lately, making files
// takes a time that says nothing of who makes them.
func freshDisk(b *bed) error {
	dir, err := os.MkdirTemp("", "berth-bench-")
	if err != nil {
		return err
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	file, at := filepath.Join(dir, "disk"), filepath.Join(dir, "t")
	if err := errors.Join(os.Mkdir(at, 0o755), disk.Format(file, diskSize)); err != nil {
		return err
	}
	if err := disk.MountDirect(file, at); err != nil {
		return err
	}
	before := os.TempDir()
	b.Cleanup(func() {
		if err := errors.Join(os.Setenv("TMPDIR", before), unix.Unmount(at, 0)); err != nil {
			b.Errorf("give the disk back: %v", err)
		}
	})
	return os.Setenv("TMPDIR", at)
}

// round pulls once, by a daemon of its own with a disk of its own.
func (p *puller) round(b *bed, server *registry.Server, ref string) {
	inner := newBed(b.ctx)
	inner.protect(func() {
		inner.must("make disk", freshDisk(inner))
		inner.must(p.name, p.pull(inner, server, ref))
	})
	inner.close()
	if inner.Failed() {
		b.Fatalf("%s did not pull", p.name)
	}
}

func (p *puller) pull(b *bed, server *registry.Server, ref string) error {
	ctx, cancel := context.WithTimeout(b.ctx, pullTime)
	defer cancel()
	pid, images := p.start(b, server)
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	unix.Sync() // what was written before is not this pull's
	if err := backMemory(); err != nil {
		return err
	}
	before, err := processorTime(dir)
	if err != nil {
		return err
	}
	begin := time.Now()
	if _, err := images.PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: ref}}); err != nil {
		return fmt.Errorf("pull %s: %w", ref, err)
	}
	p.took = append(p.took, time.Since(begin))
	after, err := processorTime(dir)
	if err != nil {
		return err
	}
	p.cpu = append(p.cpu, after-before)
	most, err := field(filepath.Join(dir, "status"), "VmHWM:")
	p.memory = append(p.memory, float64(most)/1e6)
	return err
}

// backMemory uses as much memory as a pull does, and frees it. In a virtual machine the host may have taken back what was free, and gives it
// again page by page to who is first to write to it; which of two runtimes that is, is chance.
func backMemory() error {
	memory, err := unix.Mmap(-1, 0, 3<<30, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("use memory: %w", err)
	}
	return unix.Munmap(memory)
}

// processorTime is what a process has used so far.
func processorTime(dir string) (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return 0, err
	}
	return parseProcessorTime(string(text))
}

// parseProcessorTime reads utime and stime of proc_pid_stat(5), fields 14 and 15, in ticks of 10 ms. What stands in parentheses may hold blanks.
func parseProcessorTime(stat string) (time.Duration, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("stat %q: too few fields", stat)
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, err
}

// must ends the run on an error.
func (b *bed) must(doing string, err error) {
	if err != nil {
		b.Fatalf("%s: %v", doing, err)
	}
}
