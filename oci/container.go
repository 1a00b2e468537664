package oci

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/berth-runtime/berth/oci/cgroup"
	"github.com/berth-runtime/berth/oci/mount"
	"github.com/berth-runtime/berth/oci/program"
	"github.com/berth-runtime/berth/oci/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Container is what PrepareContainer needs. All files stay the caller's.
type Container struct {
	Spec *specs.Spec
	// Root is a detached mount of the root file system. It is attached by the launch, so it serves one
	// launch only.
	Root *os.File
	// Stdin, Stdout and Stderr are the process's ends; nil stands for /dev/null. With Terminal they are
	// not used.
	Stdin, Stdout, Stderr *os.File
	Terminal              *Terminal
	// Mounts are detached mounts by destination, for those of Spec.Mounts whose source is no path: they
	// are copied, with the mount's options applied.
	Mounts map[string]*os.File
	// Users are user namespaces by destination, for those of Spec.Mounts that have mappings: they are mounted
	// with the namespace's mapping, which must be theirs.
	Users map[string]*os.File
	// Namespaces are those to join; others that the spec lists are new.
	Namespaces map[specs.LinuxNamespaceType]*os.File
	Cgroup     *cgroup.Group
	// RootAt is an empty directory of the host, where hooks that run before the root is the process's root
	// find it (the "rootfs" of their bundle). Only a Spec with such hooks needs it.
	RootAt string
}

// PrepareContainer opens the mounts' sources and compiles the program of a container's first process.
//
// Errors name the object: a missing mount source wraps fs.ErrNotExist, a refused mount is a
// *program.MountError. On error nothing is left open.
func (n *Node) PrepareContainer(in Container) (*Launch, error) {
	if in.Spec.Process == nil || in.Spec.Linux == nil {
		return nil, fmt.Errorf("prepare container: the spec has no process or linux section")
	}
	spec := *in.Spec
	spec.Process = n.clamp(in.Spec.Process, inUserNamespace(in.Spec))
	spec.Mounts = labelMounts(in.Spec)
	bag := newBag()
	bag.lend("root", in.Root)
	c := program.Container{Spec: &spec, CgroupV1: n.hierarchies, LastCap: n.lastCap, RootAt: in.RootAt}
	err := func() (err error) {
		switch t := in.Terminal; {
		case t == nil:
			err = bag.stdio(in.Stdin, in.Stdout, in.Stderr)
		case t.Devpts != nil:
			c.Terminal = true // the child opens it through its own /dev/pts
		default:
			c.TTY = true
			err = bag.stdio(t.Slave, t.Slave, t.Slave)
		}
		if err != nil {
			return err
		}
		if c.Sources, err = bag.sources(&spec, in); err != nil {
			return err
		}
		for kind, f := range in.Namespaces {
			c.Join = append(c.Join, kind)
			bag.lend(program.NamespaceSlot(kind), f)
		}
		if inUserNamespace(&spec) {
			if c.DevicesMade, err = bag.devices(&spec, c.Sources); err != nil {
				return err
			}
			if err = giveOutputs(in.Stdout, in.Stderr, spec.Linux, spec.Process.User.UID); err != nil {
				return err
			}
		}
		if c.CgroupFiles, c.CgroupDir, err = bag.cgroup(in.Cgroup); err != nil {
			return err
		}
		if c.Seccomp, err = filter(spec.Linux.Seccomp); err != nil {
			return err
		}
		return bag.gate(c.Stops())
	}()
	if err != nil {
		return bag.launch(nil, err)
	}
	return bag.launch(program.CompileContainer(c))
}

// sources opens what is mounted: paths of the host, and copies of the caller's detached mounts.
func (b *bag) sources(spec *specs.Spec, in Container) ([]program.Source, error) {
	out := make([]program.Source, len(spec.Mounts))
	for i, m := range spec.Mounts {
		o, err := program.ParseMountOptions(m.Options)
		if err != nil {
			return nil, fmt.Errorf("mount on %s: %w", m.Destination, err)
		}
		users := in.Users[m.Destination]
		if users == nil && len(m.UIDMappings)+len(m.GIDMappings) > 0 {
			return nil, fmt.Errorf("mount on %s: it has mappings, and no user namespace for them is given", m.Destination)
		}
		var f *os.File
		dir := true
		given := in.Mounts[m.Destination]
		switch {
		case in.Terminal != nil && in.Terminal.Devpts != nil && m.Type == "devpts":
			b.lend(program.SourceSlot(m), in.Terminal.Devpts) // nobody else wants it, and before Linux 6.15 there is no copy
			out[i] = program.Source{Slot: true, Dir: true}
			continue
		case given != nil:
			f, dir, err = mount.Clone(given, o, users)
		case o.Bind || m.Type == "bind":
			f, dir, err = mount.Bind(m.Source, o, users)
		default:
			out[i] = program.Source{Dir: true}
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("mount on %s: %w", m.Destination, err)
		}
		b.give(program.SourceSlot(m), f)
		out[i] = program.Source{Slot: true, Dir: dir}
		if at := mountpoint(in.Root, m.Destination); at != m.Destination {
			out[i].At = at
		}
	}
	return out, nil
}

// cgroup opens what the process enters its cgroup by.
func (b *bag) cgroup(g *cgroup.Group) (names []string, dir bool, err error) {
	if g == nil {
		return nil, false, nil
	}
	tasks, v2, err := g.Enter()
	if err != nil {
		return nil, false, fmt.Errorf("open cgroup %s: %w", g.Path(), err)
	}
	for i, f := range tasks {
		name := fmt.Sprintf("%d", i)
		if full := f.Name(); full != "" {
			name = hierarchyName(full, g.Path())
		}
		names = append(names, name)
		b.give("cgroup "+name, f)
	}
	if v2 != nil {
		b.give("cgroup", v2)
	}
	return names, v2 != nil, nil
}

// hierarchyName finds the hierarchy in /sys/fs/cgroup/HIERARCHY/PATH/tasks.
func hierarchyName(file, path string) string {
	dir := filepath.Dir(file)
	if rel, err := filepath.Rel(filepath.Clean("/"+path), "/"); err == nil {
		dir = filepath.Join(dir, rel)
	}
	return filepath.Base(dir)
}

func filter(profile *specs.LinuxSeccomp) (*program.Seccomp, error) {
	if profile == nil {
		return nil, nil
	}
	f, err := seccomp.Compile(profile)
	if err != nil {
		return nil, fmt.Errorf("compile seccomp profile: %w", err)
	}
	return &program.Seccomp{Filter: f.Program, Flags: uint64(f.Flags), Notify: f.Notify}, nil
}
