package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// memory is what processes use, in bytes.
type memory struct {
	pss      int64 // of all of them: pages shared by n processes count 1/n each
	rss      int64 // of the largest
	children int   // how many processes there are
}

// settle is what a garbage collector gets to give memory back in.
const settle = 2 * time.Second

// memory reads what the runtime's processes use.
func (t *target) memory(b *bed) memory {
	time.Sleep(settle)
	var m memory
	for _, pid := range t.pids(b) {
		dir := filepath.Join("/proc", strconv.Itoa(pid))
		pss, err := field(filepath.Join(dir, "smaps_rollup"), "Pss:")
		t.must("read memory", err)
		rss, err := field(filepath.Join(dir, "status"), "VmRSS:")
		t.must("read memory", err)
		m.pss, m.rss, m.children = m.pss+pss, max(m.rss, rss), m.children+1
	}
	return m
}

// footprint reports what pods cost.
func footprint(r *report, empty, full memory, pods int) {
	const kb = 1000
	r.value(fmt.Sprintf("memory a pod, PSS of the runtime's processes (%d, with no pod %d)", full.children, empty.children),
		"%.0f KB", float64(full.pss-empty.pss)/float64(pods)/kb, 100)
	r.value(fmt.Sprintf("memory of the runtime's processes with %d pods, PSS", pods), "%.1f MB", float64(full.pss)/kb/kb, 0)
	r.value(fmt.Sprintf("memory of the largest one (the daemon) with %d pods, RSS", pods), "%.1f MB", float64(full.rss)/kb/kb, 60)
}

// field reads a line "name 123 kB" of a file of proc(5), in bytes.
func field(path, name string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return parseField(text, name)
}

func parseField(text []byte, name string) (int64, error) {
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) == 3 && f[0] == name && f[2] == "kB" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("no line %s in kB", name)
}

// named returns the processes whose program has one of the names.
func named(names []string) ([]int, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, path := range paths {
		comm, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) || err == nil && !slices.Contains(names, strings.TrimSpace(string(comm))) {
			continue
		}
		if err != nil {
			return nil, err
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	if len(pids) == 0 {
		return nil, fmt.Errorf("no process is named %s", strings.Join(names, " or "))
	}
	return pids, nil
}
