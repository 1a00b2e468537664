// Package oci turns a runtime-spec Spec into a launch: a program (package program) and the open files
// that fill its slots. It knows no pod, no image and no CRI; where the process runs, and who reaps it,
// is the caller's business.
//
//	Probe            what the node has and lacks, once at start
//	PreparePod       the program that makes a pod's namespaces; ReceiveNamespaces gets them
//	PreparePause     PID 1 of a pod with a shared PID namespace
//	PrepareContainer a container's first process
//	PrepareExec      one more process in a container
//
// A launch owns its files: close it once the launcher has them, whether it failed or not. What the node
// does not grant (capabilities that the daemon itself lacks, rlimits above its own, a lower
// oom_score_adj without CAP_SYS_RESOURCE) is clamped, and told once.
package oci
