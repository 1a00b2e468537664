package link

import (
	"errors"

	"github.com/vishvananda/netlink/nl"
)

// dumpTries is how often a list is asked for. Each is over in less than a millisecond, so that so many in a row that something else changes
// in the namespace are a fault of the namespace's.
const dumpTries = 20

// Whole returns a list of the kernel's, which dump asks for. What is listed may change between two parts of a long list, which then may lack
// entries that were there all the time; the kernel says so (NLM_F_DUMP_INTR, netlink(7)), and Whole asks again. The error is dump's, and
// nl.ErrDumpInterrupted when no list came whole in twenty tries.
func Whole[T any](dump func() ([]T, error)) (list []T, err error) {
	for range dumpTries {
		if list, err = dump(); !errors.Is(err, nl.ErrDumpInterrupted) {
			return list, err
		}
	}
	return nil, err
}
