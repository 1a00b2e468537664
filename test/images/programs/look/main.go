// Command look prints, as JSON, everything that a process could use to get out of its container: what
// it was given, and what it sees. Package test/safety compares the whole of it. Its arguments are paths,
// of which it tells what kind of file system they are on.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// report is decoded by test/safety.
type report struct {
	PID         int
	Descriptors []string          // "1 pipe": those that came with the execve
	Mounts      []string          // "/proc proc rw,nosuid,nodev,noexec", in the order of mountinfo
	Status      map[string]string // of /proc/self/status: ids, groups, capabilities, seccomp, no_new_privs
	Root        []string          // what is in the root directory
	Kinds       map[string]string // path → the file system's magic number (statfs(2)), of the arguments
}

func main() {
	r := report{PID: os.Getpid(), Descriptors: inherited(), Mounts: mounts(), Status: status()}
	entries, err := os.ReadDir("/")
	fail(err)
	for _, e := range entries {
		r.Root = append(r.Root, e.Name())
	}
	r.Kinds = map[string]string{}
	for _, path := range os.Args[1:] {
		var st unix.Statfs_t
		fail(unix.Statfs(path, &st))
		r.Kinds[path] = strconv.FormatInt(int64(st.Type), 16)
	}
	fail(json.NewEncoder(os.Stdout).Encode(r))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// inherited lists the descriptors that are not close-on-exec: Go's own all are.
func inherited() []string {
	var out []string
	for fd := range 4096 {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			continue
		}
		target, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		fail(err)
		target, _, _ = strings.Cut(target, ":")
		out = append(out, fmt.Sprint(fd, " ", target))
	}
	return out
}

func mounts() []string {
	text, err := os.ReadFile("/proc/self/mountinfo")
	fail(err)
	var out []string
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		dash := slices.Index(f, "-") // after a varying number of optional fields, proc_pid_mountinfo(5)
		out = append(out, f[4]+" "+f[dash+1]+" "+f[5])
	}
	return out
}

func status() map[string]string {
	text, err := os.ReadFile("/proc/self/status")
	fail(err)
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch key {
		case "Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "Seccomp_filters", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb":
			out[key] = strings.Join(strings.Fields(value), " ")
		}
	}
	return out
}
