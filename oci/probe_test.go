package oci

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/berth-runtime/berth/test/images"
)

// probeBinary is testdata/probe, built once: static, whatever the tests themselves are.
var probeBinary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "berth-probe-")
	if err == nil {
		probeBinary = filepath.Join(dir, "probe")
		var content []byte
		if content, err = images.Program("oci/testdata/probe"); err == nil {
			err = os.WriteFile(probeBinary, content, 0o755)
		}
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
