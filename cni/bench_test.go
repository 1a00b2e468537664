package cni

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// BenchmarkRootAdd measures network set-up and release of a pod with the built-in bridge and one host port, with 0 and with 200 (or
// BERTH_BENCH_PODS) other pods of the same kind there.
func BenchmarkRootAdd(b *testing.B) {
	many := 200
	if s := os.Getenv("BERTH_BENCH_PODS"); s != "" {
		many, _ = strconv.Atoi(s)
	}
	for _, pods := range []int{0, many} {
		b.Run(fmt.Sprintf("pods=%d", pods), func(b *testing.B) {
			w := newWorld(b, nil)
			for i := range pods {
				w.pod(b, fmt.Sprintf("other%d", i), PortMapping{HostPort: int32(10000 + i), ContainerPort: 80})
			}
			var adds, dels []time.Duration
			for b.Loop() {
				b.StopTimer()
				a, remove := w.attachment(b, "measured", PortMapping{HostPort: 9999, ContainerPort: 80})
				b.StartTimer()
				add, del, err := measure(w, a)
				if err != nil {
					b.Fatal(err)
				}
				adds, dels = append(adds, add), append(dels, del)
				b.StopTimer()
				remove()
				b.StartTimer()
			}
			report := func(list []time.Duration, name string) {
				slices.Sort(list)
				b.ReportMetric(list[len(list)/2].Seconds()*1e3, name+"-ms-median")
				b.ReportMetric(list[len(list)*95/100].Seconds()*1e3, name+"-ms-p95")
			}
			report(adds, "add")
			report(dels, "del")
		})
	}
}

// measure attaches and releases a pod on a goroutine that is not tied to a thread, as the daemon's are not.
func measure(w *world, a Attachment) (add, del time.Duration, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		start := time.Now()
		if _, err = w.Add(context.Background(), a); err != nil {
			return
		}
		add = time.Since(start)
		start = time.Now()
		err = w.Del(context.Background(), a)
		del = time.Since(start)
	}()
	<-done
	return add, del, err
}
