package kubelet

import "testing"

// TestRootPods runs what users write into pods, on one node, some at a time.
func TestRootPods(t *testing.T) {
	n := start(t, nil)
	t.Run("pods", func(t *testing.T) { // ends when all have ended, before the node does
		for _, c := range []struct {
			name string
			test func(*testing.T, *Node)
		}{
			{"first", first},
			{"inits", inits},
			{"broken", broken},
			{"completes", completes},
			{"crashes", crashes},
			{"ends", ends},
			{"deaf", deaf},
			{"changes", changes},
			{"probes", probes},
			{"alive", alive},
			{"hungry", hungry},
			{"grows", grows},
			{"volumes", volumes},
			{"missing", missing},
			{"addresses", addresses},
			{"hosts", hosts},
			{"secured", secured},
			{"mapped", mapped},
			{"rotates", rotates},
			{"streams", streams},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.test(t, n)
			})
		}
	})
}
