// Package launch runs launch programs (package program) in children of this process. It is the
// last of three stages: sandbox/spec builds a Spec, program compiles it, launch runs it. It knows
// neither of the others' inputs: a program is a list of system calls to it.
//
//	this process              a zygote                          child
//	Start: resolve addresses
//	  program, descriptors ─▶ read it
//	                            clone3(CLONE_PARENT) ────────▶  (a copy of the zygote)
//	  pid, pidfd ◀──────────  done
//	  write uid_map, gid_map ──────────────── go byte ───────▶  wait for it (new user namespaces only)
//	                                                            close every descriptor that is no slot
//	                                                            step, step, step …
//	Wait: read the status pipe
//	  {adopted, pid} ◀────────────────────────────────────────  CallAdopt: clone3(CLONE_PARENT) made the real process
//	  {step, errno}  ◀────────────────────────────────────────  a step failed; exit 127
//	  end of file    ◀────────────────────────────────────────  execve closed the pipe, or the last step was done; exit 0
//	                                                            (or it was killed: a byte in shared memory tells)
//
// A zygote is a fork of this process that has dropped all memory but its program's text and one area:
// forking it copies next to nothing, and the child's execve has next to nothing to take apart. Forking a Go process
// of 10 MB takes 0.3 ms, and its execve as long again; with a zygote both take 0.1 ms. The children are
// this process's own, by CLONE_PARENT. A zygote that is killed is replaced.
//
// Zygotes and children have no Go runtime: they allocate nothing, take no lock, and grow no stack; they call
// nothing but raw system calls, on memory that Start prepared. A plain fork, never CLONE_VM: the child lives in
// the container's namespaces before its execve, and what it can be read for there is a copy: of its own program, and of
// nothing that this process knows of other containers.
//
// The runtime's fork hooks are reached by linkname; the Go toolchain keeps them open for this use
// (src/runtime/proc.go, "hall of shame" comments of syscall_runtime_BeforeFork and its siblings).
package launch
