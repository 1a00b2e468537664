// Package criu talks with CRIU, the program that dumps a tree of processes to files and restores it from them (criu.org).
//
// A dump is the daemon's: criu runs as its child, by criu's RPC. A restore's criu is executed by others, for it has
// to be a descendant of the keeper, whose child the restored process becomes when criu has ended.
//
// What the processes share with others is named by both, as runc and crun name it, so that archives are alike:
//
//	mnt[DESTINATION]        a mount of the host's: volumes, /etc/hosts, /dev/shm
//	extRootNetNS            the pod's network namespace
//	pipe:[INODE]            standard output and error, and standard input that is a pipe
//	file[MOUNT:INODE]       standard input that is the host's /dev/null
//
// What the package must not do: know pods, or where archives are.
package criu
