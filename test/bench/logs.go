package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	floodLines = 1_000_000            // of 100 bytes each
	lineInLog  = 100 + len(logPrefix) // of CRI's form
	quietLines = 200                  // whose delay is measured
	patience   = 2 * time.Minute      // for one flood
	mostLog    = 256 << 20            // of the log of a flood that goes on
	logPrefix  = "2016-10-06T00:17:09.669794202Z stdout F "
	floodFile  = `yes $(printf %099d 1) | head -c 10000000 > /lines; echo ready; while [ ! -e /go ]; do sleep 0.01; done; `
	floodTimes = 10
)

// logs measures how fast one container's lines get into its log, and how long a quiet container's line takes while
// another one floods its own.
func logs(t *target, r *report) {
	// 250 MB a second.
	r.times("100 MB of one container's 100-byte lines, to its log", []time.Duration{t.pour(2000)}, 400)
	var delays []time.Duration
	t.flood(2001, floodFile+"while :; do cat /lines; done", func(path string) time.Duration {
		delays = t.quiet(path)
		return 0
	})
	r.p99("a quiet container's line to its log, while another floods", delays, 50)
}

// pour has a container write a million lines, and returns how long they took to its log, from the first to the last.
func (t *target) pour(number int) time.Duration {
	return t.flood(number, fmt.Sprintf("%sfor i in $(seq %d); do cat /lines; done; echo end; sleep 3600", floodFile, floodTimes), func(path string) time.Duration {
		t.grown(path, int64(lineInLog))
		begin := time.Now()
		t.grown(path, floodLines*100)
		for !t.endsWith(path, "stdout F end\n") {
			time.Sleep(200 * time.Microsecond)
			if time.Since(begin) > patience {
				t.bed.Fatalf("%s has no last line after %v", path, patience)
			}
		}
		return time.Since(begin)
	})
}

// endsWith looks at the end of a log.
func (t *target) endsWith(path, last string) bool {
	f, err := os.Open(path)
	t.must("open log", err)
	defer f.Close()
	stat, err := f.Stat()
	t.must("look at log", err)
	end := make([]byte, len(last))
	_, err = f.ReadAt(end, stat.Size()-int64(len(end)))
	t.must("read log", err)
	return string(end) == last
}

// flood runs a pod whose container writes when it is told to, and during, from when it was told.
func (t *target) flood(number int, script string, during func(log string) time.Duration) time.Duration {
	p, log := t.script(number, script, nil)
	defer func() {
		_, err := t.end(p)
		t.must("end pod", err)
		os.Remove(log)
	}()
	t.grown(log, 1) // ready
	ctx, cancel := t.context()
	defer cancel()
	_, err := t.runtime.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: p.container, Cmd: []string{"touch", "/go"}, Timeout: 10})
	t.must("start the flood", err)
	return during(log)
}

// script runs a pod whose container runs a script, and returns its log's path.
func (t *target) script(number int, script string, mounts []*cri.Mount) (pod, string) {
	p, err := t.startWith(number, func(c *cri.ContainerConfig) {
		c.Command, c.Mounts = []string{"sh", "-c", script}, mounts
		c.Linux.Resources.MemoryLimitInBytes = 0 // the page cache of the lines is the container's
	})
	t.must("pod that writes", err)
	return p, filepath.Join(t.logs, t.name(number), "sleep.log")
}

// grown waits until a log has so many bytes.
func (t *target) grown(path string, size int64) {
	for end := time.Now().Add(patience); ; time.Sleep(200 * time.Microsecond) {
		if stat, err := os.Stat(path); err == nil && stat.Size() >= size {
			return
		}
		if time.Now().After(end) {
			t.bed.Fatalf("%s has not %d bytes after %v", path, size, patience)
		}
	}
}

// quiet measures the way of lines through a container that only passes them on. loud is another's log, which is kept small.
func (t *target) quiet(loud string) []time.Duration {
	fifo := filepath.Join(t.logs, "fifo")
	t.must("make fifo", syscall.Mkfifo(fifo, 0o600))
	defer os.Remove(fifo)
	p, log := t.script(2002, "echo ready; exec cat /fifo", []*cri.Mount{{HostPath: fifo, ContainerPath: "/fifo"}})
	defer func() {
		_, err := t.end(p)
		t.must("end pod", err)
	}()
	in, err := os.OpenFile(fifo, os.O_WRONLY, 0) // waits for the reader
	t.must("open fifo", err)
	defer in.Close()
	t.grown(log, 1)
	stat, err := os.Stat(log)
	t.must("look at log", err)
	size, delays := stat.Size(), []time.Duration(nil)
	for range quietLines {
		begin := time.Now()
		_, err := in.WriteString("a line\n")
		t.must("write a line", err)
		size += int64(len(logPrefix) + len("a line\n"))
		t.grown(log, size)
		delays = append(delays, time.Since(begin))
		if stat, err := os.Stat(loud); err == nil && stat.Size() > mostLog {
			t.must("shorten log", os.Truncate(loud, 0))
		}
		time.Sleep(5 * time.Millisecond)
	}
	return delays
}
