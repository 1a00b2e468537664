package oci

import (
	"fmt"
	"os"

	"github.com/berth-runtime/berth/oci/cgroup"
	"github.com/berth-runtime/berth/oci/mount"
	"github.com/berth-runtime/berth/oci/program"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Command is what PrepareCommand needs. All files stay the caller's.
type Command struct {
	Args, Env             []string // Args[0] is the absolute path of a program of the host's
	Stdin, Stdout, Stderr *os.File // nil: /dev/null; not used with Terminal
	Terminal              *Terminal
	// Mounts are what the program alone sees, in order.
	Mounts []CommandMount
	// Extra are descriptors that the program gets beside the standard ones, from 3 on.
	Extra []*os.File
	// Cgroup is where the program runs, as the root of the cgroups that it sees; nil: the keeper's.
	Cgroup *cgroup.Group
	// OOMScore is the program's oom_score_adj, which is granted (Clamp); nil: the keeper's.
	OOMScore *int
}

// Give gives the program one more descriptor, and returns its number there.
func (c *Command) Give(f *os.File) int {
	c.Extra = append(c.Extra, f)
	return 2 + len(c.Extra)
}

// CommandMount is something to be mounted on a path of the host that exists. One of File, Copy and Path
// says what.
type CommandMount struct {
	File   *os.File // a detached mount, which serves one launch only
	Copy   *os.File // a mount of which a copy is attached
	Path   string   // of the host, with what is mounted below it and what will be
	Target string
	// Options are those of a mount in a Spec; of File they are its maker's.
	Options []string
	// Below says that Options are those of a mount that this one is to be below: the recursive ones hold.
	Below bool
}

// PrepareCommand compiles the program that executes a program of the host's, such as another OCI runtime.
func (n *Node) PrepareCommand(in Command) (*Launch, error) {
	bag := newBag()
	c := program.Command{Args: in.Args, Env: in.Env, OOMScore: in.OOMScore}
	err := func() error {
		if t := in.Terminal; t != nil {
			c.TTY = true
			in.Stdin, in.Stdout, in.Stderr = t.Slave, t.Slave, t.Slave
		}
		if err := bag.stdio(in.Stdin, in.Stdout, in.Stderr); err != nil {
			return err
		}
		for i, f := range in.Extra {
			bag.lend(program.ExtraSlot(i), f)
		}
		c.Extra = len(in.Extra)
		if in.Cgroup != nil {
			var err error
			if c.CgroupFiles, c.CgroupDir, err = bag.cgroup(in.Cgroup); err != nil {
				return err
			}
			c.CgroupNamespace = true
		}
		for _, m := range in.Mounts {
			c.Mounts = append(c.Mounts, program.Attach{Target: m.Target})
			slot := program.AttachSlot(m.Target)
			var f *os.File
			o, err := program.ParseMountOptions(m.Options)
			if err != nil {
				return fmt.Errorf("mount on %s: %w", m.Target, err)
			}
			if m.Below {
				o = o.Below()
			}
			switch {
			case m.File != nil:
				bag.lend(slot, m.File)
				continue
			case m.Copy != nil:
				f, _, err = mount.Clone(m.Copy, o, nil)
			default:
				f, _, err = mount.Bind(m.Path, bound(o), nil)
			}
			if err != nil {
				return fmt.Errorf("mount on %s: %w", m.Target, err)
			}
			bag.give(slot, f)
		}
		return nil
	}()
	if err != nil {
		return bag.launch(nil, err)
	}
	return bag.launch(program.CompileCommand(c))
}

// bound has what is mounted below come along where the options don't say anything of it.
func bound(o program.MountOptions) program.MountOptions {
	if !o.Bind {
		o.Bind, o.RecursiveBind = true, true
	}
	return o
}

// Clamp returns a copy of a process that asks for nothing that this node refuses, for those who launch it by
// other means than PrepareContainer, which does the same.
func (n *Node) Clamp(p *specs.Process) *specs.Process { return n.clamp(p, false) }
