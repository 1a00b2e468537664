// Package seccomp compiles OCI seccomp profiles to the classic BPF programs that
// seccomp(2) takes, in pure Go, and gives the default profile. It installs
// nothing, opens nothing, and knows no container.
//
// What a profile means is what runc and libseccomp make of it, as that is what
// profiles are written for:
//
//   - A rule without arguments decides for its call; else the first rule whose
//     arguments match; else the default action. Rules whose action is the default
//     one are left out beforehand.
//   - The arguments of a rule must all match; but when two of them are about the
//     same argument of the call, any one of them is enough.
//   - Names that no table knows are skipped: profiles name calls of all kernels
//     and architectures. So are architectures that this machine cannot run.
//   - A process of an architecture that the profile does not name is killed. The
//     machine's own is always named.
//   - Where the default action refuses, a call newer than all that the profile
//     names for its architecture gets ENOSYS, so that libc falls back to an older
//     one instead of failing on EPERM.
//   - On 386, socket calls and System V IPC can also be made through socketcall(2)
//     and ipc(2): rules for them without arguments hold there too.
//
// A program is one tree of comparisons an architecture:
//
//	load arch ─ equal? ─▶ load nr ─ binary search over ranges of numbers ─▶ return, or
//	          ─ else ──▶ kill                                               compare arguments ─▶ return
//
// Ranges of calls with the same fate are one leaf: the default profile needs
// about eight comparisons for a call, and the kernel (since 5.11) remembers the
// calls that are allowed whatever their arguments.
//
// tables.go is generated (go generate) from golang.org/x/sys.
package seccomp

//go:generate go run ./gentables
