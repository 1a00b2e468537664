package link_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/vishvananda/netlink/nl"

	"github.com/berth-runtime/berth/cni/plugin/link"
)

// An interrupted list is never taken for the whole one.
func TestWhole(t *testing.T) {
	other := errors.New("no memory")
	for name, c := range map[string]struct {
		interrupted int
		then        error
		want        error
	}{
		"at once":     {0, nil, nil},
		"interrupted": {3, nil, nil},
		"then fails":  {1, other, other},
		"for ever":    {1 << 20, nil, nl.ErrDumpInterrupted},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			got, err := link.Whole(func() ([]int, error) {
				if calls++; calls <= c.interrupted {
					return []int{1}, fmt.Errorf("list: %w", nl.ErrDumpInterrupted)
				}
				return []int{1, 2}, c.then
			})
			if !errors.Is(err, c.want) || (err == nil && !slices.Equal(got, []int{1, 2})) {
				t.Errorf("got %v, %v; want %v", got, err, c.want)
			}
			if c.interrupted < 10 && calls != c.interrupted+1 {
				t.Errorf("asked %d times", calls)
			}
		})
	}
}
