// Command probe is what the containers of package oci's tests run: it tells, as JSON, what it finds of
// itself there.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// report is what a process in a container sees of itself.
type report struct {
	Args, Env  []string
	Cwd        string
	PID        int
	UID, GID   int
	Groups     []int
	Hostname   string
	FDs        []string
	Mounts     []string // mountpoint, type, ro
	Status     map[string]string
	OOM        string
	Files      string            // soft and hard limit of open files; Go raises the soft one to the hard
	Readonly   map[string]string // path → what writing to it says
	Masked     map[string]string // path → what reading it says
	Dev        []string
	Namespaces map[string]string
	Session    bool
	Domain     string
	Clocks     map[string]int64 // seconds
	Console    bool             // stdin and stdout are a terminal, and /dev/console is there
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "wait" {
		fmt.Println("waiting")
		unix.Pause()
	}
	if len(os.Args) > 1 && os.Args[1] == "spy" {
		spy()
	}
	if len(os.Args) > 2 && os.Args[1] == "cat" {
		b, err := os.ReadFile(os.Args[2])
		if err != nil {
			b = []byte(err.Error())
		}
		os.Stdout.Write(b)
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "pause" && os.Getpid() == 1 && os.Getuid() == 65535 {
		os.Exit(5)
	}
	r := report{Args: os.Args, Env: os.Environ(), PID: os.Getpid(), UID: os.Getuid(), GID: os.Getgid(), Status: map[string]string{},
		Readonly: map[string]string{}, Masked: map[string]string{}, Namespaces: map[string]string{}}
	r.Cwd, _ = os.Getwd()
	r.Groups, _ = os.Getgroups()
	r.Hostname, _ = os.Hostname()
	r.Files = openFiles()
	r.FDs = inherited()
	b, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.SplitSeq(strings.TrimSpace(string(b)), "\n") {
		f := strings.Fields(line)
		dash := 6
		for f[dash] != "-" {
			dash++
		}
		r.Mounts = append(r.Mounts, f[4]+" "+f[dash+1]+" "+f[5])
	}
	b, _ = os.ReadFile("/proc/self/status")
	for line := range strings.SplitSeq(string(b), "\n") {
		if k, v, ok := strings.Cut(line, ":\t"); ok && (strings.HasPrefix(k, "Cap") || k == "NoNewPrivs" || k == "Seccomp" || k == "Umask") {
			r.Status[k] = v
		}
	}
	b, _ = os.ReadFile("/proc/self/oom_score_adj")
	r.OOM = strings.TrimSpace(string(b))
	for _, p := range []string{"/proc/sys/kernel/hostname", "/sys/kernel/x", "/newfile", "/data/x", "/ro/x"} {
		f, err := os.OpenFile(p, os.O_WRONLY|os.O_CREATE, 0o600)
		if err == nil {
			f.Close()
		}
		r.Readonly[p] = message(err)
	}
	for _, p := range []string{"/proc/kcore", "/proc/keys", "/proc/scsi", "/sys/firmware"} {
		if st, err := os.Stat(p); err != nil {
			r.Masked[p] = message(err)
		} else if st.IsDir() {
			entries, err := os.ReadDir(p)
			r.Masked[p] = fmt.Sprint(len(entries), " entries ", message(err))
		} else {
			b, err := os.ReadFile(p)
			r.Masked[p] = fmt.Sprint(len(b), " bytes ", message(err))
		}
	}
	entries, _ := os.ReadDir("/dev")
	for _, e := range entries {
		r.Dev = append(r.Dev, e.Name()+" "+e.Type().String())
	}
	for _, n := range []string{"mnt", "pid", "net", "ipc", "uts", "cgroup", "user"} {
		r.Namespaces[n], _ = os.Readlink("/proc/self/ns/" + n)
	}
	sid, _ := unix.Getsid(0)
	r.Session = sid == os.Getpid()
	var uts unix.Utsname
	_ = unix.Uname(&uts)
	r.Domain = unix.ByteSliceToString(uts.Domainname[:])
	r.Clocks = map[string]int64{"monotonic": clock(unix.CLOCK_MONOTONIC), "boottime": clock(unix.CLOCK_BOOTTIME)}
	sort.Strings(r.Dev)
	r.Console = terminal(0) && terminal(1) && exists("/dev/console")
	json.NewEncoder(os.Stdout).Encode(r)
	if len(os.Args) > 1 {
		code, _ := strconv.Atoi(os.Args[1])
		os.Exit(code)
	}
	os.Exit(0)
}

func clock(id int32) int64 {
	var at unix.Timespec
	_ = unix.ClockGettime(id, &at)
	return at.Sec
}

func message(err error) string {
	if err == nil {
		return "ok"
	}
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return err.Error()
		}
		err = u.Unwrap()
	}
}

func terminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// openFiles is the soft and hard limit of open files.
func openFiles() string {
	b, _ := os.ReadFile("/proc/self/limits")
	for line := range strings.SplitSeq(string(b), "\n") {
		if f := strings.Fields(line); strings.HasPrefix(line, "Max open files") {
			return f[3] + " " + f[4]
		}
	}
	return ""
}

// inherited lists the descriptors that came with the execve: Go's own are all close-on-exec.
func inherited() []string {
	var out []string
	for fd := range 64 {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) != nil {
			continue
		}
		flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		target, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		if flags&unix.FD_CLOEXEC == 0 {
			target, _, _ = strings.Cut(target, ":")
			out = append(out, fmt.Sprint(fd, " ", target))
		}
	}
	return out
}
