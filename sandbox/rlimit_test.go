package sandbox

import (
	"math"
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestParseRlimits(t *testing.T) {
	got, err := parseRlimits([]string{"nofile=1024:524288", "CORE=0", "memlock=65536:unlimited"})
	want := []specs.POSIXRlimit{
		{Type: "RLIMIT_NOFILE", Soft: 1024, Hard: 524288}, {Type: "RLIMIT_CORE"}, {Type: "RLIMIT_MEMLOCK", Soft: 65536, Hard: math.MaxUint64},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	for _, bad := range [][]string{{"files=1"}, {"nofile"}, {"nofile="}, {"nofile=2:1"}, {"nofile=-1"}, {"nofile=1:"}, {"nofile=unlimited:1"}, {"core=0", "core=1"}, {"=1"}} {
		if got, err := parseRlimits(bad); err == nil {
			t.Errorf("%q is taken: %v", bad, got)
		}
	}
}
