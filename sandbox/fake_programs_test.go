package sandbox

import (
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/oci"
	"github.com/berth-runtime/berth/oci/program"
)

type fakePrograms struct{}

func emptyLaunch() *oci.Launch {
	return &oci.Launch{Program: &program.Program{Clone: program.Clone{Cgroup: program.NoSlot}}}
}

// PreparePod sends at once what the program would.
func (fakePrograms) PreparePod(in oci.Pod) (*oci.Launch, error) {
	var fds []int
	for range in.Namespaces {
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		defer unix.Close(fd)
		fds = append(fds, fd)
	}
	return emptyLaunch(), unix.Sendmsg(int(in.Socket.Fd()), []byte("x"), unix.UnixRights(fds...), nil, 0)
}

func (fakePrograms) PreparePause(oci.Pause) (*oci.Launch, error) { return emptyLaunch(), nil }

func (fakePrograms) PrepareContainer(in oci.Container) (*oci.Launch, error) {
	l := emptyLaunch()
	l.Files = ends(in.Terminal, in.Stdin, in.Stdout, in.Stderr)
	return l, nil
}

// ends are what a process gets as its first descriptors.
func ends(t *oci.Terminal, in, out, err *os.File) []*os.File {
	if t != nil {
		return []*os.File{t.Slave, t.Slave, t.Slave}
	}
	return []*os.File{in, out, err}
}

func (fakePrograms) Clamp(p *specs.Process) *specs.Process { return p }

func (fakePrograms) PrepareCommand(in oci.Command) (*oci.Launch, error) {
	l := emptyLaunch()
	l.Program.Slots = in.Args // for the fake keeper to run
	l.Files = ends(nil, in.Stdin, in.Stdout, in.Stderr)
	return l, nil
}

func (fakePrograms) PrepareExec(in oci.Exec) (*oci.Launch, error) {
	l := emptyLaunch()
	l.Program.Slots = in.Process.Args // for the fake keeper to run
	l.Files = ends(in.Terminal, in.Stdin, in.Stdout, in.Stderr)
	return l, nil
}
