package cgroup

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf/asm"
	"github.com/containerd/cgroups/v3/cgroup2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// setDevicesV2 attaches a device program (BPF_CGROUP_DEVICE, Linux 4.15) to the
// group. It must have none yet: programs add up.
func (l limits) setDevicesV2(rules []specs.LinuxDeviceCgroup) error {
	if len(rules) == 0 || allowsAll(rules) {
		return nil
	}
	program, err := deviceProgram(rules)
	if err != nil {
		return err
	}
	dir, err := openFile(l.tree.unified+l.path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	if _, err := cgroup2.LoadAttachCgroupDeviceFilter(program, "Apache", int(dir.Fd())); err != nil {
		// Not EINVAL: a program that the kernel finds wrong must not pass for a node
		// that has no device rules.
		if notGranted(err) || errors.Is(err, unix.ENOSYS) {
			l.tree.warnOnce("devices", err)
			return nil
		}
		return fmt.Errorf("attach device program: %w", err)
	}
	return nil
}

// allowsAll says whether the last word of rules on every device is yes, as for
// a privileged container: then there is nothing to attach.
func allowsAll(rules []specs.LinuxDeviceCgroup) bool {
	last := rules[len(rules)-1]
	return last.Allow && (last.Type == "a" || last.Type == "") && (last.Access == "" || accessBits(last.Access) == allAccess) && number(last.Major) < 0 && number(last.Minor) < 0
}

// allAccess is every kind of access of BPF_CGROUP_DEVICE.
const allAccess = unix.BPF_DEVCG_ACC_MKNOD | unix.BPF_DEVCG_ACC_READ | unix.BPF_DEVCG_ACC_WRITE

// Registers of the device program.
const (
	regType, regAccess, regMajor, regMinor = asm.R2, asm.R3, asm.R4, asm.R5
)

// deviceProgram decides as v1's devices.allow and devices.deny would after being
// written in order: the last rule that speaks of an access wins. An allowing rule
// must cover all of the access (opening for reading and writing needs "rw"), a
// denying one any part of it. cgroup2.DeviceFilter lets an "r" rule allow writing
// too, which is why the program is assembled here.
func deviceProgram(rules []specs.LinuxDeviceCgroup) (asm.Instructions, error) {
	p := asm.Instructions{
		// struct bpf_cgroup_dev_ctx: access_type (access<<16 | type), major, minor; all u32.
		asm.LoadMem(regType, asm.R1, 0, asm.Word),
		asm.And.Imm32(regType, 0xffff),
		asm.LoadMem(regAccess, asm.R1, 0, asm.Word),
		asm.RSh.Imm32(regAccess, 16),
		asm.LoadMem(regMajor, asm.R1, 4, asm.Word),
		asm.LoadMem(regMinor, asm.R1, 8, asm.Word),
	}
	for i := len(rules) - 1; i >= 0; i-- {
		block, err := deviceBlock(rules[i], ruleLabel(i-1))
		if err != nil {
			return nil, err
		}
		decidesAll := len(block) == 3 // nothing but the label's instruction and the verdict
		block[0] = block[0].WithSymbol(ruleLabel(i))
		p = append(p, block...)
		if decidesAll {
			return p, nil // the kernel refuses what cannot be reached
		}
	}
	return append(p, asm.Mov.Imm32(asm.R0, 0).WithSymbol(ruleLabel(-1)), asm.Return()), nil
}

func ruleLabel(i int) string { return fmt.Sprintf("rule%d", i) }

// deviceBlock decides by one rule, or jumps to next. It begins with an
// instruction that can bear a label.
func deviceBlock(rule specs.LinuxDeviceCgroup, next string) (asm.Instructions, error) {
	block := asm.Instructions{asm.Mov.Reg32(asm.R1, regAccess)}
	switch rule.Type {
	case "c", "u":
		block = append(block, asm.JNE.Imm(regType, unix.BPF_DEVCG_DEV_CHAR, next))
	case "b":
		block = append(block, asm.JNE.Imm(regType, unix.BPF_DEVCG_DEV_BLOCK, next))
	case "a", "":
	default:
		return nil, fmt.Errorf("%w: device type %q", ErrInvalidLimit, rule.Type)
	}
	bits := int32(allAccess)
	if rule.Access != "" {
		bits = accessBits(rule.Access)
	}
	if bits < 0 {
		return nil, fmt.Errorf("%w: device access %q", ErrInvalidLimit, rule.Access)
	}
	if bits != allAccess {
		if rule.Allow {
			block = append(block, asm.And.Imm32(asm.R1, ^bits), asm.JNE.Imm32(asm.R1, 0, next))
		} else {
			block = append(block, asm.And.Imm32(asm.R1, bits), asm.JEq.Imm32(asm.R1, 0, next))
		}
	}
	for _, n := range []struct {
		register asm.Register
		value    int64
	}{{regMajor, number(rule.Major)}, {regMinor, number(rule.Minor)}} {
		if n.value > 1<<31-1 {
			return nil, fmt.Errorf("%w: device number %d", ErrInvalidLimit, n.value)
		}
		if n.value >= 0 {
			block = append(block, asm.JNE.Imm(n.register, int32(n.value), next))
		}
	}
	verdict := int32(0)
	if rule.Allow {
		verdict = 1
	}
	return append(block, asm.Mov.Imm32(asm.R0, verdict), asm.Return()), nil
}

// accessBits are the bits of "rwm" letters, -1 for any other letter.
func accessBits(access string) int32 {
	bits := int32(0)
	for _, letter := range access {
		switch letter {
		case 'r':
			bits |= unix.BPF_DEVCG_ACC_READ
		case 'w':
			bits |= unix.BPF_DEVCG_ACC_WRITE
		case 'm':
			bits |= unix.BPF_DEVCG_ACC_MKNOD
		default:
			return -1
		}
	}
	return bits
}

// number is a device number, -1 for any.
func number(n *int64) int64 {
	if n == nil {
		return -1
	}
	return *n
}
