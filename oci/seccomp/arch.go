package seccomp

import (
	"runtime"
	"strconv"
	"strings"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// arch is one architecture as a profile names it.
type arch struct {
	name   specs.Arch
	audit  uint32                   // AUDIT_ARCH_… in seccomp_data
	wide   bool                     // arguments have 64 bits
	base   uint32                   // added to every number: x32's bit
	calls  func() map[string]uint32 // numbers by name
	shared map[string][]multiplexed // what is also reached through socketcall(2) or ipc(2)
}

// x32Bit marks the numbers of x32 calls, which have amd64's AUDIT_ARCH.
const x32Bit = 0x40000000

// Architectures. All are little-endian, which the compiler counts on.
var (
	archAMD64   = &arch{name: specs.ArchX86_64, audit: unix.AUDIT_ARCH_X86_64, wide: true, calls: table(callsAmd64)}
	archX32     = &arch{name: specs.ArchX32, audit: unix.AUDIT_ARCH_X86_64, wide: true, base: x32Bit, calls: table(callsX32)}
	arch386     = &arch{name: specs.ArchX86, audit: unix.AUDIT_ARCH_I386, calls: table(calls386), shared: multiplexed386}
	archARM64   = &arch{name: specs.ArchAARCH64, audit: unix.AUDIT_ARCH_AARCH64, wide: true, calls: table(callsArm64)}
	archARM     = &arch{name: specs.ArchARM, audit: unix.AUDIT_ARCH_ARM, calls: table(callsArm)}
	archRISCV64 = &arch{name: specs.ArchRISCV64, audit: unix.AUDIT_ARCH_RISCV64, wide: true, calls: table(callsRiscv64)}
)

// families are the architectures that a machine of each GOARCH can run, its own first.
var families = map[string][]*arch{
	"amd64":   {archAMD64, archX32, arch386},
	"386":     {arch386},
	"arm64":   {archARM64, archARM},
	"arm":     {archARM},
	"riscv64": {archRISCV64},
}

// family is that of this machine; nil where there is none.
func family() []*arch { return families[runtime.GOARCH] }

// knownArches are the other names that a profile may have.
var knownArches = map[specs.Arch]bool{
	specs.ArchX86: true, specs.ArchX86_64: true, specs.ArchX32: true, specs.ArchARM: true, specs.ArchAARCH64: true, specs.ArchMIPS: true,
	specs.ArchMIPS64: true, specs.ArchMIPS64N32: true, specs.ArchMIPSEL: true, specs.ArchMIPSEL64: true, specs.ArchMIPSEL64N32: true,
	specs.ArchPPC: true, specs.ArchPPC64: true, specs.ArchPPC64LE: true, specs.ArchS390: true, specs.ArchS390X: true, specs.ArchPARISC: true,
	specs.ArchPARISC64: true, specs.ArchRISCV64: true, specs.ArchLOONGARCH64: true, specs.ArchM68K: true, specs.ArchSH: true, specs.ArchSHEB: true,
}

// table parses a generated list of calls when it is first needed.
func table(text string) func() map[string]uint32 {
	return sync.OnceValue(func() map[string]uint32 {
		calls := make(map[string]uint32, 512)
		for word := range strings.FieldsSeq(text) {
			name, number, _ := strings.Cut(word, "=")
			n, err := strconv.ParseUint(number, 10, 32)
			if err != nil {
				panic("seccomp: generated table: " + word)
			}
			calls[name] = uint32(n)
		}
		return calls
	})
}

// multiplexed is a call that another one makes when its first argument is number.
type multiplexed struct {
	through string
	number  uint64
}

// multiplexed386 are the calls behind socketcall(2) and ipc(2), see
// <linux/net.h> and <linux/ipc.h>.
var multiplexed386 = func() map[string][]multiplexed {
	out := map[string][]multiplexed{}
	for i, name := range []string{
		"socket", "bind", "connect", "listen", "accept", "getsockname", "getpeername", "socketpair", "send", "recv", "sendto",
		"recvfrom", "shutdown", "setsockopt", "getsockopt", "sendmsg", "recvmsg", "accept4", "recvmmsg", "sendmmsg",
	} {
		out[name] = []multiplexed{{"socketcall", uint64(i + 1)}}
	}
	for name, number := range map[string]uint64{
		"semop": 1, "semget": 2, "semctl": 3, "semtimedop": 4, "msgsnd": 11, "msgrcv": 12, "msgget": 13, "msgctl": 14,
		"shmat": 21, "shmdt": 22, "shmget": 23, "shmctl": 24,
	} {
		out[name] = []multiplexed{{"ipc", number}}
	}
	return out
}()
