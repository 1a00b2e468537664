// Package launch runs launch programs (package program) in forked children of this process. It is the
// last of three stages: sandbox/spec builds a Spec, program compiles it, launch runs it. It knows
// neither of the others' inputs: a program is a list of system calls to it.
//
//	parent                                    child
//	Start: resolve addresses and slots
//	  clone3 ──────────────────────────────▶  (a copy of the parent, one thread, signals blocked)
//	  write uid_map, gid_map ── go byte ───▶  wait for it (new user namespaces only)
//	                                          close every descriptor that is no slot
//	                                          step, step, step …
//	Wait: read the status pipe
//	  {adopted, pid} ◀──────────────────────  CallAdopt: clone3(CLONE_PARENT) made the real process
//	  {step, errno}  ◀──────────────────────  a step failed; exit 127
//	  end of file    ◀──────────────────────  execve closed the pipe, or the last step was done; exit 0
//
// Between clone3 and execve the child allocates nothing, takes no lock, and grows no stack: it calls
// nothing but raw system calls, on memory that Start prepared. A plain fork, never CLONE_VM: the child
// lives in the container's namespaces before its execve, and what it can be read for there is a copy.
//
// The runtime's fork hooks are reached by linkname; the Go toolchain keeps them open for this use
// (src/runtime/proc.go, "hall of shame" comments of syscall_runtime_BeforeFork and its siblings).
package launch
