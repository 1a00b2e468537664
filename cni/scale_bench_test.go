package cni

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkRootScale attaches 500 pods (BERTH_BENCH_PODS), each with a port of the host, and then releases them, and says what the first
// fifty cost and what the last fifty did: with constant cost the two are alike. The tenth percentile is what the machine does when its
// neighbours let it, and cpu is the thread's own time, in which no neighbour is. The directory is on a tmpfs, as /run/berth is.
func BenchmarkRootScale(b *testing.B) {
	pods := 500
	if s := os.Getenv("BERTH_BENCH_PODS"); s != "" {
		pods, _ = strconv.Atoi(s)
	}
	b.Setenv("TMPDIR", "/dev/shm")
	for b.Loop() {
		w := newWorld(b, nil)
		adds, dels := make([]cost, pods), make([]cost, pods)
		list := make([]Attachment, pods)
		for i := range pods {
			list[i], _ = w.attachment(b, fmt.Sprintf("p%d", i), PortMapping{HostPort: int32(10000 + i), ContainerPort: 80})
			adds[i] = timed(b, func() error {
				_, err := w.Add(context.Background(), list[i])
				return err
			})
		}
		for i := range slices.Backward(list) { // so that the last ones go while all others are there
			dels[i] = timed(b, func() error { return w.Del(context.Background(), list[i]) })
		}
		for name, took := range map[string][]cost{"add": adds, "del": dels} {
			part := min(50, pods/2)
			for at, some := range map[string][]cost{"first": took[:part], "last": took[pods-part:]} {
				walls, cpus := make([]time.Duration, part), make([]time.Duration, part)
				for i, c := range some {
					walls[i], cpus[i] = c.wall, c.cpu
				}
				slices.Sort(walls)
				slices.Sort(cpus)
				b.ReportMetric(walls[part/2].Seconds()*1e3, name+"-ms-median-of-"+at)
				b.ReportMetric(walls[part/10].Seconds()*1e3, name+"-ms-p10-of-"+at)
				b.ReportMetric(cpus[part/2].Seconds()*1e3, name+"-cpu-ms-of-"+at)
			}
		}
	}
}

// cost is what a call took.
type cost struct{ wall, cpu time.Duration }

// timed runs fn on a goroutine of its own, as the daemon's requests have.
func timed(b *testing.B, fn func() error) (took cost) {
	b.Helper()
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		began, start := threadTime(), time.Now()
		err = fn()
		took = cost{time.Since(start), threadTime() - began}
	}()
	<-done
	if err != nil {
		b.Fatal(err)
	}
	return took
}

func threadTime() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now)
	return time.Duration(now.Nano())
}
