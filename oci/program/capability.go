package program

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// capSets are capability sets, a bit a capability.
type capSets struct{ bounding, effective, permitted, inheritable, ambient uint64 }

func (b processSteps) capabilities(c *specs.LinuxCapabilities) capSets {
	if c == nil {
		return capSets{}
	}
	b.labelf("set capabilities")
	return capSets{
		bounding: b.capBits(c.Bounding), effective: b.capBits(c.Effective), permitted: b.capBits(c.Permitted),
		inheritable: b.capBits(c.Inheritable), ambient: b.capBits(c.Ambient),
	}
}

func (b processSteps) capBits(names []string) uint64 {
	var bits uint64
	for _, n := range names {
		c, ok := CapabilityNumber(n)
		if !ok {
			b.fail("capability %q: unknown", n)
		}
		bits |= 1 << c
	}
	return bits
}

// CapabilityNumber finds a capability by its OCI name ("CAP_CHOWN").
func CapabilityNumber(name string) (int, bool) {
	n, ok := capabilityNumbers()[name]
	return n, ok
}

// capabilityNumbers is the table of names, made when it is first asked for.
var capabilityNumbers = sync.OnceValue(func() map[string]int {
	table := map[string]int{}
	for _, c := range capability.ListKnown() {
		table["CAP_"+strings.ToUpper(c.String())] = int(c)
	}
	return table
})

// capset sets the sets of capset(2), whose structs hold the low words of all, then the high words.
func (b processSteps) capset(c capSets) {
	var raw []byte
	for _, shift := range []int{0, 32} {
		for _, set := range []uint64{c.effective, c.permitted, c.inheritable} {
			raw = binary.LittleEndian.AppendUint32(raw, uint32(set>>shift))
		}
	}
	header := binary.LittleEndian.AppendUint64(nil, unix.LINUX_CAPABILITY_VERSION_3) // and pid 0
	b.call(unix.SYS_CAPSET, data(b.constant(string(header), 8), "version 3"),
		data(b.constant(string(raw), 8), fmt.Sprintf("effective %#x permitted %#x inheritable %#x", c.effective, c.permitted, c.inheritable)))
}
