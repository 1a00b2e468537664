package sandbox

import (
	"bytes"
	"errors"
	"os"
	"testing"
)

// A log that is too large is renamed once, and one that stays missing is made anew; when the keeper refuses, all is as before.
func TestLogCap(t *testing.T) {
	w := newWorld(t)
	d := w.start()
	d.configure(func(c *Config) { c.MaxLogSize = leastLogSize }) // without the loop
	pod := podConfig("web")
	pod.LogDirectory = w.dir + "/logs"
	config := containerConfig("c")
	config.LogPath = "c/0.log"
	id := d.create(d.runPod(pod), config)
	d.begin(id)
	path := w.dir + "/logs/c/0.log"
	size := func(path string) int64 {
		stat, err := os.Stat(path)
		if err != nil {
			return -1
		}
		return stat.Size()
	}
	fill := func(n int) {
		if err := os.WriteFile(path, bytes.Repeat([]byte("x"), n), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	look := func(gone map[string]bool) map[string]bool { return d.m.containers.lookAtLogs(t.Context(), gone) }

	fill(leastLogSize)
	if look(nil); size(path) != leastLogSize || size(path+oldLog) >= 0 {
		t.Errorf("a log at its cap: %d bytes, and %d old", size(path), size(path+oldLog))
	}
	fill(leastLogSize + 1)
	d.fail("reopen", errors.New("refused"))
	if look(nil); size(path) != leastLogSize+1 || size(path+oldLog) >= 0 {
		t.Errorf("when the keeper refuses: %d bytes, and %d old", size(path), size(path+oldLog))
	}
	d.fail("reopen", nil)
	if look(nil); size(path) != 0 || size(path+oldLog) != leastLogSize+1 {
		t.Errorf("a log over its cap: %d bytes, and %d old", size(path), size(path+oldLog))
	}
	fill(leastLogSize + 2)
	if look(nil); size(path) != 0 || size(path+oldLog) != leastLogSize+2 {
		t.Errorf("once more: %d bytes, and %d old", size(path), size(path+oldLog))
	}
	rename(t, path, path+".20261121-140000") // as kubelet does, which tells us then
	gone := look(nil)
	if size(path) >= 0 || !gone[id] {
		t.Errorf("a missing log was made at once, of %d bytes; gone: %v", size(path), gone)
	}
	if gone = look(gone); size(path) != 0 || len(gone) > 0 {
		t.Errorf("a log that stays missing: %d bytes; gone: %v", size(path), gone)
	}
}
