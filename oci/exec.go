package oci

import (
	"fmt"
	"os"

	"github.com/berth-runtime/berth/oci/cgroup"
	"github.com/berth-runtime/berth/oci/program"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Exec is what PrepareExec needs. All files stay the caller's.
type Exec struct {
	Process *specs.Process
	Path    string       // what is executed; "": Process.Args[0], looked for along PATH
	Linux   *specs.Linux // the container's: its seccomp profile, personality and memory policy
	// PidFD refers to the container's first process, whose namespaces the new one joins.
	PidFD *os.File
	// UserNamespace says that the container is in a user namespace of its own or its pod's.
	UserNamespace         bool
	Stdin, Stdout, Stderr *os.File // nil: /dev/null; not used with Terminal
	Terminal              *Terminal
	Cgroup                *cgroup.Group
	// Reaper says that what descendants of the process leave when they end becomes its child, not PID 1's
	// (PR_SET_CHILD_SUBREAPER of prctl(2)): as long as it lives, all that came of it can be found below it.
	Reaper bool
}

// PrepareExec compiles the program of one more process in a container.
func (n *Node) PrepareExec(in Exec) (*Launch, error) {
	bag := newBag()
	bag.lend("process", in.PidFD)
	if in.Process == nil {
		return nil, fmt.Errorf("prepare exec: no process")
	}
	e := program.Exec{Process: n.clamp(in.Process, in.UserNamespace), Path: in.Path, Linux: in.Linux, Reaper: in.Reaper, UserNamespace: in.UserNamespace, LastCap: n.lastCap}
	err := func() (err error) {
		if t := in.Terminal; t != nil {
			e.TTY = true
			in.Stdin, in.Stdout, in.Stderr = t.Slave, t.Slave, t.Slave
		}
		if err = bag.stdio(in.Stdin, in.Stdout, in.Stderr); err != nil {
			return err
		}
		if e.CgroupFiles, e.CgroupDir, err = bag.cgroup(in.Cgroup); err != nil {
			return err
		}
		if in.UserNamespace && in.Linux != nil {
			if err = giveOutputs(in.Stdout, in.Stderr, in.Linux, in.Process.User.UID); err != nil {
				return err
			}
		}
		if in.Linux != nil {
			e.Seccomp, err = filter(in.Linux.Seccomp)
		}
		if err != nil {
			return err
		}
		return bag.gate(e.Seccomp != nil && e.Seccomp.Notify)
	}()
	if err != nil {
		return bag.launch(nil, err)
	}
	return bag.launch(program.CompileExec(e))
}
