// Package vm runs a virtual machine for a test: Debian's kernel with a pure cgroup v2
// hierarchy (or, with systemd, those of v1), under qemu, with systemd as PID 1 or without. Tests that need another
// kernel, another PID 1 or a machine to crash belong here.
//
//	m, err := vm.Boot(ctx, vm.Options{Tree: dir, At: "/work"})
//	err = m.Run(ctx, vm.Command{Args: []string{"/work/thing"}, Stdout: &out})
//	m.Kill() // the power goes; Boot with the same Disks sees what was written
//
// Nothing is installed: qemu, the kernel and the machine's programs are Debian
// packages of this machine's release, unpacked into the cache (test/images) by the
// first test that boots; half a minute, and some 700 MB.
//
// Where the processor can (KVM), the machine is about as fast as this one. Else qemu
// translates: a start takes ten seconds, computing is 2 times and a fork up to 100
// times slower. Nothing may be measured there, and time-outs must be generous. There
// is no network card.
//
// What runs inside is test/vm/guest; the two talk by test/vm/wire.
package vm
