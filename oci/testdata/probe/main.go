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

// commands are what it does instead of telling, by its first argument.
var commands = map[string]func(){
	"wait":  wait,
	"spy":   spy,
	"cat":   cat,
	"pause": pause,
}

func main() {
	code := 0
	if len(os.Args) > 1 {
		if do := commands[os.Args[1]]; do != nil {
			do()
			return
		}
		code, _ = strconv.Atoi(os.Args[1])
	}
	r := report{Args: os.Args, Env: os.Environ(), Hostname: hostname(), Files: openFiles(), FDs: inherited()}
	r.identity()
	r.mounts()
	r.status()
	r.writable("/proc/sys/kernel/hostname", "/sys/kernel/x", "/newfile", "/data/x", "/ro/x")
	r.readable("/proc/kcore", "/proc/keys", "/proc/scsi", "/sys/firmware")
	r.devices()
	r.surroundings()
	json.NewEncoder(os.Stdout).Encode(r)
	os.Exit(code)
}

func wait() {
	fmt.Println("waiting")
	unix.Pause()
}

// cat writes a file, or why it can't.
func cat() {
	if len(os.Args) < 3 {
		os.Exit(2)
	}
	b, err := os.ReadFile(os.Args[2])
	if err != nil {
		b = []byte(err.Error())
	}
	os.Stdout.Write(b)
}

// pause is the pod's PID 1, which runs without privileges.
func pause() {
	if os.Getpid() != 1 || os.Getuid() != 65535 {
		os.Exit(6)
	}
	os.Exit(5)
}

func hostname() string {
	name, _ := os.Hostname()
	return name
}

// identity is who the process is, and where.
func (r *report) identity() {
	r.PID, r.UID, r.GID = os.Getpid(), os.Getuid(), os.Getgid()
	r.Groups, _ = os.Getgroups()
	r.Cwd, _ = os.Getwd()
	sid, _ := unix.Getsid(0)
	r.Session = sid == r.PID
	b, _ := os.ReadFile("/proc/self/oom_score_adj")
	r.OOM = strings.TrimSpace(string(b))
}

// mounts takes mountinfo apart (proc_pid_mountinfo(5)).
func (r *report) mounts() {
	b, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.SplitSeq(strings.TrimSpace(string(b)), "\n") {
		f := strings.Fields(line)
		dash := 6
		for f[dash] != "-" {
			dash++
		}
		r.Mounts = append(r.Mounts, f[4]+" "+f[dash+1]+" "+f[5])
	}
}

// status is what the kernel says of its privileges.
func (r *report) status() {
	r.Status = map[string]string{}
	b, _ := os.ReadFile("/proc/self/status")
	for line := range strings.SplitSeq(string(b), "\n") {
		if k, v, ok := strings.Cut(line, ":\t"); ok && (strings.HasPrefix(k, "Cap") || k == "NoNewPrivs" || k == "Seccomp" || k == "Umask") {
			r.Status[k] = v
		}
	}
}

// writable tries to write to files.
func (r *report) writable(paths ...string) {
	r.Readonly = map[string]string{}
	for _, p := range paths {
		f, err := os.OpenFile(p, os.O_WRONLY|os.O_CREATE, 0o600)
		if err == nil {
			f.Close()
		}
		r.Readonly[p] = message(err)
	}
}

// readable tries to read files and directories.
func (r *report) readable(paths ...string) {
	r.Masked = map[string]string{}
	for _, p := range paths {
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
}

func (r *report) devices() {
	entries, _ := os.ReadDir("/dev")
	for _, e := range entries {
		r.Dev = append(r.Dev, e.Name()+" "+e.Type().String())
	}
	sort.Strings(r.Dev)
	r.Console = terminal(0) && terminal(1) && exists("/dev/console")
}

// surroundings are its namespaces, and what it sees by them.
func (r *report) surroundings() {
	r.Namespaces = map[string]string{}
	for _, n := range []string{"mnt", "pid", "net", "ipc", "uts", "cgroup", "user"} {
		r.Namespaces[n], _ = os.Readlink("/proc/self/ns/" + n)
	}
	var uts unix.Utsname
	_ = unix.Uname(&uts)
	r.Domain = unix.ByteSliceToString(uts.Domainname[:])
	r.Clocks = map[string]int64{"monotonic": clock(unix.CLOCK_MONOTONIC), "boottime": clock(unix.CLOCK_BOOTTIME)}
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
