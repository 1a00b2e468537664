package leak

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// processes are all of them, and the namespaces that they live in or hold open:
// one that is not pinned by a mount can live nowhere else.
func processes() ([]Leak, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var out []Leak
	namespaces := map[string]string{} // by name, to the first process that was found with it
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		started, ok := startTime(pid)
		if !ok || strings.HasSuffix(started, kernelThread) {
			continue
		}
		who := describe(pid)
		out = append(out, Leak{"process", fmt.Sprintf("%d (start %s)", pid, started), who})
		for _, pattern := range []string{"ns/*", "fd/*"} {
			collectNamespaces(namespaces, filepath.Join("/proc", e.Name(), pattern), who)
		}
	}
	for name, who := range namespaces {
		out = append(out, Leak{"namespace", name, "held by " + who})
	}
	return out, nil
}

// kernelThread ends the start time of those, which come and go as the kernel likes.
const kernelThread = " kernel"

// startTime tells a process from a later one of the same number: field 22 of
// proc_pid_stat(5), counted after the name, which may hold anything.
func startTime(pid int) (string, bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", false // it has ended
	}
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(f) < 20 {
		return "", false
	}
	const kthread = 0x00200000 // PF_KTHREAD
	if flags, err := strconv.ParseUint(f[6], 10, 64); err == nil && flags&kthread != 0 {
		return f[19] + kernelThread, true
	}
	return f[19], true
}

// describe says all that can tell whose a process is: program, command line,
// cgroups, working directory, and the variables by which tests mark theirs.
func describe(pid int) string {
	dir := fmt.Sprintf("/proc/%d/", pid)
	exe, _ := os.Readlink(dir + "exe")
	cwd, _ := os.Readlink(dir + "cwd")
	command, _ := os.ReadFile(dir + "cmdline")
	cgroup, _ := os.ReadFile(dir + "cgroup")
	text := exe + " [" + strings.TrimSpace(strings.ReplaceAll(string(command), "\x00", " ")) + "] in " + cwd
	seen := map[string]bool{}
	for line := range strings.Lines(string(cgroup)) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 && f[2] != "/" && !seen[f[2]] {
			seen[f[2]] = true
			text += " cgroup " + f[2]
		}
	}
	environ, _ := os.ReadFile(dir + "environ")
	for _, v := range strings.Split(string(environ), "\x00") {
		if strings.HasPrefix(v, "BERTH_TEST_") {
			text += " " + v
		}
	}
	return text
}

func collectNamespaces(into map[string]string, pattern, who string) {
	paths, _ := filepath.Glob(pattern) // the pattern is well-formed
	for _, path := range paths {
		target, err := os.Readlink(path)
		kind, _, found := strings.Cut(target, ":[")
		if err != nil || !found || !strings.HasSuffix(target, "]") || !isNamespace(kind) {
			continue
		}
		if into[target] == "" {
			into[target] = who
		}
	}
}

func isNamespace(kind string) bool {
	switch kind {
	case "net", "mnt", "ipc", "uts", "pid", "user", "cgroup", "time":
		return true
	}
	return false
}
