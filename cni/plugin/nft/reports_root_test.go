package nft

import (
	"encoding/binary"
	"testing"

	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
)

// TestRootReportsAfterFlushAndRestart: the rule is there again when somebody has flushed the rule set, and the next daemon finds it.
func TestRootReportsAfterFlushAndRestart(t *testing.T) {
	host := linktest.Host(t)
	r, watch := NewReports(host.FD(), "berth-test"), NewReports(host.FD(), "berth-test")
	t.Cleanup(func() { _, _ = r.Close(), watch.Close() })
	const group = 7
	drop := func(r *Reports, before bool) {
		t.Helper()
		for _, want := range []bool{before, true} {
			got, err := watch.table.holds(entry{setGroups, string(binary.NativeEndian.AppendUint32(nil, group))}, "")
			if got != want || err != nil {
				t.Errorf("the kernel has the group: %t, %v", got, err)
			}
			if err := r.Drop(group); err != nil {
				t.Fatal(err)
			}
		}
	}
	drop(r, false)
	drop(r, true)
	flushRuleset(t, host.FD())
	drop(r, false)
	next := NewReports(host.FD(), "berth-test") // the next daemon
	t.Cleanup(func() { _ = next.Close() })
	drop(next, true)
	for range 2 {
		if err := next.Prune(); err != nil {
			t.Error(err)
		}
	}
	drop(r, false) // as after a pod that came while the other daemon was at its end
}
