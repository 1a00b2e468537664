package oci

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// probeBinary is testdata/probe, built once: static, whatever the tests themselves are.
var probeBinary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "berth-probe-")
	if err == nil {
		probeBinary = filepath.Join(dir, "probe")
		build := exec.Command("go", "build", "-o", probeBinary, "./testdata/probe")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stderr = os.Stderr
		err = build.Run()
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the probe:", err)
	} else {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

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
