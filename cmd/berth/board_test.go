package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/imagestore"
)

// terminal is a pseudo-terminal with a screen, which reads what it must of ECMA-48.
type terminal struct {
	t       *testing.T
	master  *os.File
	slave   *os.File
	columns int
	screen  []string
	row     int
}

func newTerminal(t *testing.T, columns, rows int) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	t.Setenv("TERM", "xterm")
	term := &terminal{t: t, master: master, slave: slave, screen: []string{""}}
	term.resize(columns, rows)
	return term
}

func (term *terminal) resize(columns, rows int) {
	term.t.Helper()
	term.columns = columns
	if err := unix.IoctlSetWinsize(int(term.slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: uint16(columns), Row: uint16(rows)}); err != nil {
		term.t.Fatal(err)
	}
}

// raw is what was written to it since the last call.
func (term *terminal) raw() string {
	term.t.Helper()
	const end = "\x00end\x00"
	if _, err := term.slave.WriteString(end); err != nil {
		term.t.Fatal(err)
	}
	if err := term.master.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		term.t.Fatal(err)
	}
	var all []byte
	for buf := make([]byte, 4096); !bytes.HasSuffix(all, []byte(end)); {
		n, err := term.master.Read(buf)
		if err != nil {
			term.t.Fatal(err)
		}
		all = append(all, buf[:n]...)
	}
	return strings.TrimSuffix(string(all), end)
}

// draw draws that, and returns the lines on the screen.
func (term *terminal) draw() []string {
	term.t.Helper()
	for text := term.raw(); text != ""; {
		var n int
		var final rune
		switch {
		case strings.HasPrefix(text, "\x1b["):
			end := strings.IndexFunc(text, func(r rune) bool { return r >= 'A' && r <= 'Z' })
			if fmt.Sscanf(text, "\x1b[%d%c", &n, &final); final == 0 {
				final = rune(text[end])
			}
			switch final {
			case 'F':
				if term.row -= n; term.row < 0 {
					term.t.Fatalf("%d lines up, which is above the screen", n)
				}
			case 'K': // only ever where the line ends, or at its beginning
			case 'J':
				term.screen = append(term.screen[:term.row:term.row], "")
			default:
				term.t.Fatalf("an escape sequence %q", text[:end+1])
			}
			text = text[end+1:]
		case strings.HasPrefix(text, "\r\n"):
			term.row++
			if term.row == len(term.screen) {
				term.screen = append(term.screen, "")
			}
			text = text[2:]
		default:
			end := strings.IndexAny(text+"\x1b", "\x1b\r")
			line := text[:end]
			for len(line) > term.columns { // it wraps
				term.screen[term.row] = line[:term.columns]
				line = line[term.columns:]
				term.row++
				term.screen = append(term.screen[:term.row:term.row], "")
			}
			term.screen[term.row] = line
			text = text[end:]
		}
	}
	return term.screen
}

func pulling(received ...int64) (layers []imagestore.LayerProgress) {
	for i, n := range received {
		layers = append(layers, imagestore.LayerProgress{Blob: fmt.Sprintf("sha256:%012d", i), State: imagestore.LayerPulling, Received: n, Total: 250e6})
	}
	return layers
}

// TestBoard: what is drawn over is what was drawn, whatever the size of the terminal, and nothing of it stays.
func TestBoard(t *testing.T) {
	for _, size := range [][2]int{{80, 24}, {40, 24}, {12, 24}, {200, 50}, {80, 3}, {0, 0}} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			term := newTerminal(t, size[0], size[1])
			term.columns = max(term.columns, 12)
			if size[0] == 0 {
				term.columns = 80
			}
			fmt.Fprintln(term.slave, "$ berth")
			b := newBoard(term.slave)
			var screen []string
			for n := range int64(5) {
				b.show(layerLines(pulling(n*50e6, 1e6, 0), b.columns(), b.rows()))
				screen = term.draw()
			}
			if len(screen) != min(max(b.rows(), 1), 3)+2 || screen[0] != "$ berth" || !strings.HasPrefix(screen[1], "00000000000") {
				t.Errorf("shown:\n%s", strings.Join(screen, "\n"))
			}
			if size[0] >= 40 && !strings.HasSuffix(screen[1], "200.0 MB of 250.0 MB") {
				t.Errorf("the first layer: %s", screen[1])
			}
			b.clear()
			b.clear()
			fmt.Fprintln(term.slave, "an error")
			if got := strings.Join(term.draw(), "|"); got != "$ berth|an error|" {
				t.Errorf("in the end %q", got)
			}
		})
	}
}

// TestBoardResized: the next drawing is for the new size.
func TestBoardResized(t *testing.T) {
	term := newTerminal(t, 120, 24)
	b := newBoard(term.slave)
	for _, columns := range []int{120, 30, 80, 12} {
		term.resize(columns, 24)
		b.show(layerLines(pulling(1e6, 2e6), b.columns(), b.rows()))
		for _, line := range strings.Split(term.raw(), "\n") {
			if line = strings.TrimSuffix(line, "\x1b[K\r"); !strings.HasPrefix(line, "\x1b") && len(line) >= columns {
				t.Errorf("%d columns: %q", columns, line)
			}
		}
	}
}

func TestBoardOnNoTerminal(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	dumb := newTerminal(t, 80, 24)
	t.Setenv("TERM", "dumb")
	for _, out := range []*os.File{file, dumb.slave} {
		b := newBoard(out)
		b.show([]string{"x"})
		b.clear()
	}
	if info, err := file.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("%d bytes in a file, %v", info.Size(), err)
	}
	if got := dumb.raw(); got != "" {
		t.Errorf("%q on a dumb terminal", got)
	}
}

// TestMeter: it says at the end that all has passed, while the daemon is still at it.
func TestMeter(t *testing.T) {
	term := newTerminal(t, 80, 24)
	content := bytes.Repeat([]byte("x"), 5_000_000)
	for name, c := range map[string]struct {
		total int64
		want  string
	}{"of a file": {5_000_000, "import  [========================]  5.0 MB of 5.0 MB"}, "of a pipe": {0, "import  5.0 MB"}} {
		m := &meter{board: newBoard(term.slave), what: "import", total: c.total}
		if _, err := new(bytes.Buffer).ReadFrom(meteredReader{bytes.NewReader(content), m}); err != nil {
			t.Fatal(err)
		}
		if got := term.draw(); got[0] != c.want {
			t.Errorf("%s: %q", name, got)
		}
		m.board.clear()
		if got := term.draw(); len(got) != 1 || got[0] != "" {
			t.Errorf("%s, then: %q", name, got)
		}
	}
	if err := importImage(t.Context(), nil, os.Stdout, term.slave.Name(), ""); err == nil || !strings.Contains(err.Error(), "terminal") {
		t.Errorf("from a terminal: %v", err)
	}
}
