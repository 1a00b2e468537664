package main

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/berth-runtime/berth/test/vm"
)

// request is what vm exec asks vm with for.
type request struct {
	Binary string // on this machine
	Args   []string
	Env    []string
	Dir    string
}

// reply has output, or is the last.
type reply struct {
	Stream int
	Data   []byte
	Done   bool
	Code   int
	Err    string
}

// serve answers on a socket until the program ends.
func serve(m *vm.Machine, socket string) error {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("listen for vm exec: %w", err)
	}
	go func() { // ends with the program
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go answer(m, conn, fmt.Sprintf("/tmp/vm-exec-%d", n))
		}
	}()
	return nil
}

// answer runs what one client asks for. When the client goes, so does the program.
func answer(m *vm.Machine, conn net.Conn, at string) {
	defer conn.Close()
	var r request
	in := gob.NewDecoder(conn)
	if err := in.Decode(&r); err != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // ends with the connection
		_, _ = conn.Read(make([]byte, 1))
		cancel()
	}()
	out := gob.NewEncoder(conn)
	at = filepath.Join(at, filepath.Base(r.Binary))
	err := m.Put(r.Binary, at)
	if err == nil {
		err = m.Run(ctx, vm.Command{
			Args: append([]string{at}, r.Args...), Env: r.Env, Dir: r.Dir,
			Stdout: replies{out, 1}, Stderr: replies{out, 2},
		})
	}
	last := reply{Done: true}
	var exit vm.ExitError
	switch {
	case errors.As(err, &exit):
		last.Code = int(exit)
	case err != nil:
		last.Code, last.Err = 1, err.Error()+"\nthe machine's console ends:\n"+m.Console()
	}
	_ = out.Encode(last) // a client that has gone needs no answer
	_ = m.Run(context.Background(), vm.Command{Args: []string{"rm", "-rf", filepath.Dir(at)}})
}

// replies is an io.Writer of output; Run calls it from one goroutine.
type replies struct {
	out    *gob.Encoder
	stream int
}

func (w replies) Write(p []byte) (int, error) {
	return len(p), w.out.Encode(reply{Stream: w.stream, Data: p})
}

// execIn returns the program's exit code.
func execIn(binary string, args []string) (int, error) {
	conn, err := net.Dial("unix", os.Getenv(socketVariable))
	if err != nil {
		return 1, fmt.Errorf("find the machine (%s; see vm with): %w", socketVariable, err)
	}
	defer conn.Close()
	r := request{Args: args}
	if r.Binary, err = filepath.Abs(binary); err != nil {
		return 1, fmt.Errorf("find binary: %w", err)
	}
	if r.Dir, err = os.Getwd(); err != nil {
		return 1, fmt.Errorf("find working directory: %w", err)
	}
	for _, v := range os.Environ() {
		// Nobody shares the machine.
		if strings.HasPrefix(v, "BERTH_") && !strings.HasPrefix(v, "BERTH_TEST_SHARED=") {
			r.Env = append(r.Env, v)
		}
	}
	if err := gob.NewEncoder(conn).Encode(r); err != nil {
		return 1, fmt.Errorf("ask the machine: %w", err)
	}
	for in := gob.NewDecoder(conn); ; {
		var m reply
		switch err := in.Decode(&m); {
		case errors.Is(err, io.EOF):
			return 1, vm.ErrGone
		case err != nil:
			return 1, fmt.Errorf("hear from the machine: %w", err)
		case m.Done && m.Err != "":
			return m.Code, errors.New(m.Err)
		case m.Done:
			return m.Code, nil
		case m.Stream == 1:
			_, _ = os.Stdout.Write(m.Data)
		default:
			_, _ = os.Stderr.Write(m.Data)
		}
	}
}
