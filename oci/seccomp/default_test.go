package seccomp

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// dockerCaps are the capabilities of a plain container.
var dockerCaps = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP",
	"CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

func TestDefault(t *testing.T) {
	plain, err := Default(dockerCaps)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := Default(append([]string{"CAP_SYS_ADMIN"}, dockerCaps...))
	if err != nil {
		t.Fatal(err)
	}
	fam := family()
	for name, p := range map[string]*specs.LinuxSeccomp{"plain": plain, "admin": admin} {
		f, err := Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d instructions", name, len(f.Program))
		r := rand.New(rand.NewPCG(2, 3))
		for i := range 4 {
			compare(t, r, p, fam, f, i)
		}
	}
	for _, c := range []struct {
		profile *specs.LinuxSeccomp
		call    string
		want    uint32
	}{
		{plain, "read", unix.SECCOMP_RET_ALLOW},
		{plain, "mount", unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{plain, "clone3", unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{admin, "mount", unix.SECCOMP_RET_ALLOW},
		{admin, "clone3", unix.SECCOMP_RET_ALLOW},
		{plain, "io_uring_setup", unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
	} {
		f, _ := Compile(c.profile)
		got := newMachine(t, f.Program).run(t, call{audit: fam[0].audit, number: fam[0].calls()[c.call]})
		if got != c.want {
			t.Errorf("%s: %#x, want %#x", c.call, got, c.want)
		}
	}
}

// TestDefaultNames: the default profile names calls of all architectures; what
// no table at all knows must be of one that berth does not compile for.
func TestDefaultNames(t *testing.T) {
	p, err := Default(append([]string{"CAP_SYS_ADMIN"}, dockerCaps...))
	if err != nil {
		t.Fatal(err)
	}
	foreign := []string{"s390_pci_mmio_read", "s390_pci_mmio_write", "s390_runtime_instr", "swapcontext", "fstatat64", "syscall"}
	var unknown []string
	for _, s := range p.Syscalls {
		for _, name := range s.Names {
			known := slices.Contains(foreign, name)
			for _, fam := range families {
				for _, a := range fam {
					_, ok := a.calls()[name]
					known = known || ok || a.shared[name] != nil
				}
			}
			if !known {
				unknown = append(unknown, name)
			}
		}
	}
	if len(unknown) > 0 {
		t.Errorf("no table has %v", unknown)
	}
}

const childVariable = "BERTH_TEST_SECCOMP_CHILD"

// TestInstalled puts the default profile on a real process, which needs no
// privilege with no_new_privs, and has it try what is allowed and what is not.
func TestInstalled(t *testing.T) {
	if os.Getenv(childVariable) != "" {
		child()
		return
	}
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestInstalled$")
	cmd.Env = append(os.Environ(), childVariable+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := []string{
		"getpid allowed", "mount operation not permitted", "clone3 function not implemented", "unix-socket allowed",
		"vsock-socket operation not permitted", "personality allowed", "bad-personality operation not permitted", "new-call function not implemented", "done",
	}
	if got := strings.Split(strings.TrimSpace(string(out)), "\n"); !slices.Equal(got, want) {
		t.Errorf("the child says %q,\nwant %q", got, want)
	}
}

// child installs the filter on its thread and tries calls on it.
func child() {
	runtime.LockOSThread()
	p, err := Default(dockerCaps)
	if err == nil {
		var f *Filter
		if f, err = Compile(p); err == nil {
			err = install(f)
		}
	}
	say := func(text string) { _, _ = unix.Write(1, []byte(text+"\n")) }
	if err != nil {
		say(err.Error())
		os.Exit(1)
	}
	try := func(name string, number, a, b, c uintptr) {
		_, _, errno := unix.RawSyscall(number, a, b, c)
		if errno == 0 || number == unix.SYS_CLONE3 && errno == unix.EINVAL {
			say(name + " allowed")
			return
		}
		say(name + " " + errno.Error())
	}
	try("getpid", unix.SYS_GETPID, 0, 0, 0)
	try("mount", unix.SYS_MOUNT, 0, 0, 0)
	try("clone3", unix.SYS_CLONE3, 0, 0, 0)
	try("unix-socket", unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM, 0)
	try("vsock-socket", unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM, 0)
	try("personality", unix.SYS_PERSONALITY, 0xffffffff, 0, 0)
	try("bad-personality", unix.SYS_PERSONALITY, 0x1234, 0, 0)
	try("new-call", 900, 0, 0, 0)
	say("done")
	unix.Exit(0)
}

func install(f *Filter) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	program := unix.SockFprog{Len: uint16(len(f.Program)), Filter: &f.Program[0]}
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(f.Flags), uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	return nil
}

func TestLoad(t *testing.T) {
	p, err := Load([]byte(`{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"],
		"syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}, {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}}]}`), dockerCaps)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Syscalls) != 1 || len(p.Architectures) != 1 {
		t.Errorf("profile is %+v", p)
	}
	for _, text := range []string{"", "{", "[]", "{}", `{"defaultAction": 1}`} {
		if _, err := Load([]byte(text), nil); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: error is %v", text, err)
		}
	}
}

// FuzzProfile: whatever a profile file holds, it is refused or compiled to a
// program that the kernel would take and that ends.
func FuzzProfile(f *testing.F) {
	p, err := Default(dockerCaps)
	if err != nil {
		f.Fatal(err)
	}
	text, _ := json.Marshal(p)
	f.Add(text)
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ALLOW","flags":[],"syscalls":[{"names":["socket"],"action":"SCMP_ACT_ERRNO","errnoRet":1,"args":[{"index":0,"value":40,"op":"SCMP_CMP_EQ"}]}]}`))
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_NOTIFY","listenerPath":"/x","architectures":["SCMP_ARCH_X32"]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Load(text, dockerCaps)
		if err != nil {
			return
		}
		for _, fam := range families {
			filter, err := compile(p, fam)
			if err != nil {
				if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrTooLong) {
					t.Errorf("error %v", err)
				}
				continue
			}
			m := newMachine(t, filter.Program)
			for _, a := range fam {
				for _, n := range []uint32{0, 1, 41, 102, 59, 1000, x32Bit, ^uint32(0)} {
					if n >= x32Bit && a == archAMD64 {
						continue // x32's
					}
					c := call{audit: a.audit, number: n | a.base, args: [6]uint64{40, 1 << 40}}
					if got, want := m.run(t, c), expected(p, fam, a, c); got != want {
						t.Errorf("%s %d: %#x, want %#x", a.name, n, got, want)
					}
				}
			}
		}
	})
}

func BenchmarkDefault(b *testing.B) {
	for b.Loop() {
		if _, err := Default(dockerCaps); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompileCold(b *testing.B) {
	p, err := Default(dockerCaps)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := compile(p, family()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompileCached(b *testing.B) {
	p, err := Default(dockerCaps)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Compile(p); err != nil {
			b.Fatal(err)
		}
	}
}
