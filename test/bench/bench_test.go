package main

import (
	"context"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	var hundred []time.Duration
	for i := 100; i > 0; i-- {
		hundred = append(hundred, time.Duration(i))
	}
	for _, c := range []struct {
		all  []time.Duration
		p    int
		want time.Duration
	}{
		{hundred, 50, 50}, {hundred, 95, 95}, {hundred, 100, 100},
		{[]time.Duration{3, 1, 2}, 50, 2}, {[]time.Duration{7}, 95, 7}, {[]time.Duration{1, 2}, 50, 1}, {nil, 50, 0},
	} {
		if got := percentile(c.all, c.p); got != c.want {
			t.Errorf("percentile(%d values, %d) = %d, want %d", len(c.all), c.p, got, c.want)
		}
	}
}

func TestReport(t *testing.T) {
	r := &report{slack: 2}
	r.times("fast", []time.Duration{time.Millisecond}, 10)
	r.times("slow", []time.Duration{15 * time.Millisecond}, 10)
	r.times("slower", []time.Duration{25 * time.Millisecond}, 10)
	r.value("free", "%.0f/s", 1000, 0)
	if got := r.over(); len(got) != 1 || got[0] != "slower" {
		t.Errorf("over the bound: %q", got)
	}
	for _, want := range []string{"1.00 ms", "15.00 ms", "1000/s", "over", "2 times"} {
		if !strings.Contains(r.String(), want) {
			t.Errorf("%q is not in\n%s", want, r)
		}
	}
}

func TestContest(t *testing.T) {
	c := contest{name: "lines", berth: []time.Duration{2 * time.Millisecond, time.Second, time.Millisecond}, others: []time.Duration{5 * time.Millisecond}, atLeast: 3}
	if got := c.times(); got != 2.5 {
		t.Errorf("%v times as fast", got)
	}
	if text := table([]contest{c}); !strings.Contains(text, "2.00 ms") || !strings.Contains(text, "5.00 ms") || !strings.Contains(text, "2.5") {
		t.Error(text)
	}
	if got := (contest{others: c.others}).times(); got != 0 {
		t.Errorf("%v times as fast without a figure", got)
	}
}

func TestParseField(t *testing.T) {
	text := []byte("Rss:  99 kB\nPss:            1234 kB\nPss_Dirty: 1 kB\n")
	if n, err := parseField(text, "Pss:"); err != nil || n != 1234<<10 {
		t.Errorf("got %d, %v", n, err)
	}
	if _, err := parseField(text, "VmRSS:"); err == nil {
		t.Error("a line that isn't there was found")
	}
	if n, err := field("/proc/self/status", "VmRSS:"); err != nil || n < 1<<20 {
		t.Errorf("our own size: %d, %v", n, err)
	}
}

func TestParseProcessorTime(t *testing.T) {
	const stat = "12 (a ) name) S 1 12 12 0 -1 4194560 100 0 3 0 250 50 9 9 20 0 5 0 100 1000 200"
	if took, err := parseProcessorTime(stat); err != nil || took != 3*time.Second {
		t.Errorf("got %v, %v", took, err)
	}
	if _, err := parseProcessorTime("12 (a) S 1"); err == nil {
		t.Error("half a line was taken")
	}
}

func TestEachBoundsItsParallelism(t *testing.T) {
	var now, most, calls atomic.Int32
	each(30, 4, func(int) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(time.Millisecond)
		now.Add(-1)
		calls.Add(1)
	})
	if calls.Load() != 30 || most.Load() > 4 || most.Load() < 2 {
		t.Errorf("%d calls, %d at once", calls.Load(), most.Load())
	}
}

func TestBedCleansUpAfterAFatalError(t *testing.T) {
	b := newBed(context.Background())
	var order []string
	b.protect(func() {
		b.Cleanup(func() { order = append(order, "first") })
		b.Cleanup(func() { order = append(order, "second"); b.Fatal("also this") })
		b.Fatalf("the %s", "end")
		order = append(order, "beyond the end")
	})
	b.close()
	if got := strings.Join(order, " "); got != "second first" || !b.Failed() {
		t.Errorf("%q, failed: %v", got, b.Failed())
	}
}

func TestNamed(t *testing.T) {
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	pids, err := named([]string{strings.TrimSpace(string(comm))})
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, pid := range pids {
		found = found || pid == os.Getpid()
	}
	if !found {
		t.Errorf("we are not among %v", pids)
	}
	if _, err := named([]string{"no such program"}); err == nil {
		t.Error("no error for a name that nothing has")
	}
}
