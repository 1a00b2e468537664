package launch

import (
	"bytes"
	"encoding/binary"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/oci/program"
	"golang.org/x/sys/unix"
)

// listing is a program that writes to its last slot which descriptors it has, as getdents64(2) lists
// /proc/self/fd, before it would execute anything.
func listing(t *testing.T, slots int) *program.Program {
	t.Helper()
	p := &program.Program{Clone: program.Clone{Cgroup: program.NoSlot}}
	for i := range slots {
		p.Slots = append(p.Slots, strconv.Itoa(i))
	}
	dir := cstr(p, "/proc/self/fd")
	for len(p.Data)%8 != 0 {
		p.Data = append(p.Data, 0)
	}
	at := program.Arg{Kind: program.ArgData, Value: uint64(len(p.Data))}
	const room = 1 << 15
	p.Data = append(p.Data, make([]byte, room)...)
	cwd := int64(unix.AT_FDCWD)
	p.Steps = []program.Step{
		{Call: unix.SYS_OPENAT, Args: []program.Arg{imm(uint64(cwd)), dir, imm(unix.O_RDONLY | unix.O_DIRECTORY)}, Result: 1},
		{Call: unix.SYS_GETDENTS64, Args: []program.Arg{{Kind: program.ArgReg, Value: 1}, at, imm(room)}, Result: 2},
		{Call: unix.SYS_WRITE, Args: []program.Arg{{Kind: program.ArgSlot, Value: uint64(slots - 1)}, at, {Kind: program.ArgReg, Value: 2}}},
		execStep(p, "/bin/true"),
	}
	return p
}

// names takes struct linux_dirent64 apart (getdents64(2)).
func names(b []byte) []string {
	var out []string
	for len(b) > 19 {
		n := int(binary.LittleEndian.Uint16(b[16:]))
		name, _, _ := bytes.Cut(b[19:n], []byte{0})
		if s := string(name); s != "." && s != ".." {
			out = append(out, s)
		}
		b = b[n:]
	}
	slices.Sort(out)
	return out
}

// CVE-2024-21626: while it is on its way into the container, and its working directory is looked for, a child has no descriptor
// but those of its own program. Its zygote has a socket to this process, and had those of other launches, which are of other
// containers.
//
// The defences: the zygote closes what a launch brought before it takes the next (walk.go, launch), and the child what is none
// of its program's before its first step (gaps).
func TestChildHasOnlyItsOwnDescriptors(t *testing.T) {
	l := newLauncher(t)
	host, err := os.Open("/") // what must not be reachable
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	many := shell("exit 0")
	var brought []int
	for i := range 40 {
		many.Slots = append(many.Slots, strconv.Itoa(i))
		brought = append(brought, int(host.Fd()))
	}
	for range 3 {
		if code := exits(t, l, many, brought...); code != 0 {
			t.Fatalf("the launch before: exit %d", code)
		}
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		code := exits(t, l, listing(t, 2), int(null.Fd()), int(w.Fd()))
		w.Close()
		buf := make([]byte, 1<<15)
		n, _ := r.Read(buf)
		r.Close()
		// 0 to 2, the slots from 4 on, the status pipe, and the directory that is read, which takes the lowest that is free.
		want := "0 1 2 3 4 5 6"
		if got := strings.Join(names(buf[:n]), " "); code != 0 || got != want {
			t.Errorf("exit %d, the child has %q, wanted %q", code, got, want)
		}
	}
}
