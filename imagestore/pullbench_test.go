package imagestore

import (
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/berth-runtime/berth/test/images"
	"github.com/berth-runtime/berth/test/registry"
)

func cpuTime(who int) time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(who, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRootPullLarge pulls 270 MB in seven layers, 740 MB in 20,000 files. The server is in this process: it sends files, by sendfile(2),
// and costs little.
func BenchmarkRootPullLarge(b *testing.B) {
	needRoot(b)
	if testing.Short() {
		b.Skip("makes a large image")
	}
	for name, media := range map[string]types.MediaType{"gzip": types.OCILayer, "zstd": types.OCILayerZStd} {
		b.Run(name, func(b *testing.B) {
			dir, err := images.Large(media)
			if err != nil {
				b.Fatal(err)
			}
			server, err := registry.Start()
			if err != nil {
				b.Fatal(err)
			}
			defer server.Close()
			server.ServeFiles(server.Addr(), dir)
			runtime.GC()
			for b.Loop() {
				b.StopTimer()
				s := newTestStore(b)
				b.StartTimer()
				before := cpuTime(syscall.RUSAGE_SELF)
				mustPull(b, s, ref(server.Addr(), "large:1"))
				b.ReportMetric(float64((cpuTime(syscall.RUSAGE_SELF) - before).Milliseconds()), "cpu-ms")
			}
			status, _ := os.ReadFile("/proc/self/status")
			for line := range strings.Lines(string(status)) {
				if strings.HasPrefix(line, "VmHWM") {
					b.Log(strings.TrimSpace(line))
				}
			}
		})
	}
}
