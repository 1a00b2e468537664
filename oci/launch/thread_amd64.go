package launch

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// archSetFS is ARCH_SET_FS of arch_prctl(2).
const archSetFS = 0x1002

// setThread lets the thread's own variables be at an address in the area. Go reads its "g" there whenever assembly (counter)
// returns, and in a zygote where that was is nothing any more. Nobody looks at what it reads.
//
//go:nosplit
//go:norace
func setThread(address uintptr) {
	syscall.RawSyscall(unix.SYS_ARCH_PRCTL, archSetFS, address, 0)
}
