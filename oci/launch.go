package oci

import (
	"errors"
	"fmt"
	"os"

	"github.com/berth-runtime/berth/oci/launch"
	"github.com/berth-runtime/berth/oci/program"
)

// Launch is a program and the files for its slots, in order.
type Launch struct {
	Program *program.Program
	Files   []*os.File
	own     []*os.File // those that Prepare… opened
	gate    *os.File   // our end of the program's gate; nil: it never stops
}

// Close closes what the launch itself opened; the files that its caller gave stay open. It may be called
// twice.
func (l *Launch) Close() error {
	var err error
	for _, f := range l.own {
		err = errors.Join(err, f.Close())
	}
	l.own = nil
	return errors.Join(err, l.closeGate())
}

// Explain turns a launch.StepError anywhere in err into a *StepError that says what the step does; other
// errors are returned as they are.
func (l *Launch) Explain(err error) error {
	var se *launch.StepError
	if !errors.As(err, &se) {
		return err
	}
	return &StepError{Label: l.Program.Label(se.Step), Errno: se.Errno, Fault: l.Program.Fault(se.Step, se.Errno)}
}

// bag collects files by slot name while a launch is prepared.
type bag struct {
	bySlot map[string]*os.File
	own    []*os.File
	talk   *os.File // the other end of slot "gate"
}

func newBag() *bag { return &bag{bySlot: map[string]*os.File{}} }

// lend puts in a file of the caller's.
func (b *bag) lend(slot string, f *os.File) {
	if f != nil {
		b.bySlot[slot] = f
	}
}

// give puts in a file that goes with the launch.
func (b *bag) give(slot string, f *os.File) {
	b.bySlot[slot] = f
	b.own = append(b.own, f)
}

// launch orders the files as the program's slots want them. On error everything that was given is closed.
func (b *bag) launch(p *program.Program, err error) (*Launch, error) {
	l := &Launch{Program: p, own: b.own, gate: b.talk}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	l.Files = make([]*os.File, len(p.Slots))
	for i, name := range p.Slots {
		f, ok := b.bySlot[name]
		if !ok {
			return nil, errors.Join(fmt.Errorf("prepare launch: %s: %w", name, errNoFile), l.Close())
		}
		l.Files[i] = f
	}
	return l, nil
}

// stdio puts in standard input, output and error; without an input the process reads /dev/null, without
// an output it writes there.
func (b *bag) stdio(in, out, errout *os.File) error {
	for slot, f := range map[string]*os.File{"stdin": in, "stdout": out, "stderr": errout} {
		if f != nil {
			b.lend(slot, f)
			continue
		}
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", slot, err)
		}
		b.give(slot, null)
	}
	return nil
}
