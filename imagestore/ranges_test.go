package imagestore

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// TestRootPullInRanges: a large layer comes in parts, and is whole; with one range at a time it comes in one piece.
func TestRootPullInRanges(t *testing.T) {
	for ranges, want := range map[int]bool{4: true, 1: false} {
		var parts atomic.Int32
		host := serve(t, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.Header.Get("Range"), "bytes=") {
					parts.Add(1)
				}
				next.ServeHTTP(w, r)
			})
		})
		content := make([]byte, 9<<20)
		rand.NewChaCha8([32]byte{}).Read(content)
		push(t, ref(host, "large:1"), imageOf(t, layerOf(t, f("a", string(content)))))
		config := testConfig(t)
		config.ParallelRanges, config.ParallelRangesFrom = ranges, 1<<20
		s := openStore(t, t.TempDir(), config)
		img := mustPull(t, s, ref(host, "large:1"))
		if got := parts.Load() > 3; got != want {
			t.Errorf("%d ranges: %d requests for parts", ranges, parts.Load())
		}
		if got := readLayer(t, s, img.layers[0], "a"); got != string(content) {
			t.Errorf("%d bytes", len(got))
		}
	}
}

// TestRangesConfig: values that can't be are named.
func TestRangesConfig(t *testing.T) {
	for key, change := range map[string]func(*Config){
		"parallel_ranges":      func(c *Config) { c.ParallelRanges = 0 },
		"parallel_ranges_from": func(c *Config) { c.ParallelRangesFrom = -1 },
	} {
		cfg := DefaultConfig()
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), key+" ") {
			t.Errorf("%s: %v", key, err)
		}
	}
}
