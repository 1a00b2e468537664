package sandbox

import (
	"fmt"
	"os"

	"github.com/berth-runtime/berth/oci"
	"github.com/berth-runtime/berth/sandbox/keeper"
)

// The name under which the keeper holds what a container's process reads: the
// write end of its standard input, or its terminal's master.
const heldInput = "input"

// openOutputs makes what the process reads and writes, and opens the log. Another runtime, or criu, makes the terminal itself.
func (s *start) openOutputs(in *oci.Container, out *keeper.Launch, another bool) (err error) {
	switch {
	case !s.c.config.TTY:
		err = s.openPipes(in, out)
	case !another:
		err = s.openTerminal(in, out)
	}
	if err != nil {
		return err
	}
	if s.c.record.LogPath == "" {
		return nil
	}
	if out.Log, err = openLog(s.c.pod.config.LogDirectory, s.c.config.LogPath); err != nil {
		return err
	}
	s.files = append(s.files, out.Log)
	return nil
}

// openTerminal makes the terminal. What comes from it is standard output: it has
// no other (CRI's ContainerConfig.tty).
func (s *start) openTerminal(in *oci.Container, out *keeper.Launch) error {
	t, err := s.containers.host.terminal(s.spec)
	if err != nil {
		return err
	}
	in.Terminal = t
	for _, f := range []*os.File{t.Devpts, t.Slave} {
		if f != nil {
			s.files = append(s.files, f)
		}
	}
	s.readTerminal(t, out)
	return nil
}

// readTerminal makes a terminal the process's input and output.
func (s *start) readTerminal(t *oci.Terminal, out *keeper.Launch) {
	s.setInput(t.Master)
	out.Hold = map[string]*os.File{heldInput: t.Master}
	out.Streams = []keeper.Stream{{Name: "stdout", File: t.Master}}
}

// openPipes makes the pipes of a process without a terminal. Without stdin it
// reads /dev/null.
func (s *start) openPipes(in *oci.Container, out *keeper.Launch) error {
	if s.c.config.Stdin {
		read, write, err := os.Pipe()
		if err != nil {
			return fmt.Errorf("make pipe for stdin: %w", err)
		}
		s.files = append(s.files, read)
		s.setInput(write)
		out.Hold = map[string]*os.File{heldInput: write}
		in.Stdin = read
	}
	for _, stream := range []struct {
		name string
		end  **os.File
	}{{"stdout", &in.Stdout}, {"stderr", &in.Stderr}} {
		read, write, err := os.Pipe()
		if err != nil {
			return fmt.Errorf("make pipe for %s: %w", stream.name, err)
		}
		s.files = append(s.files, read, write)
		*stream.end = write
		out.Streams = append(out.Streams, keeper.Stream{Name: stream.name, File: read})
	}
	return nil
}

// setInput takes over what the process reads, in place of a first attempt's.
func (s *start) setInput(f *os.File) {
	s.closeInput()
	s.input = f
}

func (s *start) closeInput() {
	if s.input != nil {
		s.input.Close()
		s.input = nil
	}
}

// closeInputLocked lets go of the daemon's part of the input, for a caller that
// has the pod's lock.
func (c *container) closeInputLocked() {
	if c.input != nil {
		c.input.Close()
		c.input = nil
	}
}
