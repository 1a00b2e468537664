package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// board is a few lines at the end of a terminal that are drawn over. On anything else, or a terminal that knows no escape sequences (term(7)), it draws
// nothing. A terminal that breaks lines anew when it gets narrower may keep a line of what was there: what others wrote above is never drawn over.
type board struct {
	out   *os.File
	lines int
}

func newBoard(out *os.File) *board {
	if term := os.Getenv("TERM"); !isTerminal(out) || term == "" || term == "dumb" {
		return &board{}
	}
	return &board{out: out}
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// columns is how long a line may be: one less than the terminal has, as the last one is where terminals differ.
func (b *board) columns() int { return int(b.size().Col) - 1 }

// rows is how many lines there may be above the cursor's.
func (b *board) rows() int { return int(b.size().Row) - 1 }

// size is asked anew each time: it changes.
func (b *board) size() unix.Winsize {
	if b.out != nil {
		if size, err := unix.IoctlGetWinsize(int(b.out.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 1 && size.Row > 1 { // a serial line has none
			return *size
		}
	}
	return unix.Winsize{Col: 80, Row: 24}
}

// show replaces what is shown, in one write. "\x1b[nF" goes n lines up, "\x1b[K" clears the rest of the line, "\x1b[J" all that follows (ECMA-48: CPL, EL, ED).
func (b *board) show(lines []string) {
	if b.out == nil {
		return
	}
	var text strings.Builder
	if b.lines > 0 {
		fmt.Fprintf(&text, "\x1b[%dF", b.lines)
	}
	columns := b.columns()
	for _, line := range lines {
		fmt.Fprintf(&text, "%.*s\x1b[K\n", columns, line) // ASCII
	}
	text.WriteString("\x1b[J")
	io.WriteString(b.out, text.String()) // that it can't is no reason to stop
	b.lines = len(lines)
}

func (b *board) clear() {
	if b.lines > 0 {
		b.show(nil)
	}
}

// partLine says how far something is, in a bar where there is room for one.
func partLine(what string, part, whole int64, columns int) string {
	text := formatSize(uint64(part)) + " of " + formatSize(uint64(whole))
	if drawn := what + "  " + bar(part, whole) + "  "; len(drawn)+len("999.9 MB of 999.9 MB") <= columns {
		return drawn + text
	}
	return what + "  " + text
}

// bar draws a part of a whole.
func bar(part, whole int64) string {
	const width = 24
	full := 0
	if whole > 0 {
		full = int(min(part, whole) * width / whole)
	}
	return "[" + strings.Repeat("=", full) + strings.Repeat(" ", width-full) + "]"
}

// meter shows how much of a stream has passed.
type meter struct {
	board *board
	what  string
	total int64 // 0: unknown
	sum   int64
	shown time.Time
}

func (m *meter) add(n int) {
	m.sum += int64(n)
	if now := time.Now(); now.Sub(m.shown) >= 100*time.Millisecond {
		m.shown = now
		m.show()
	}
}

func (m *meter) show() {
	line := m.what + "  " + formatSize(uint64(m.sum))
	if m.total > 0 {
		line = partLine(m.what, m.sum, m.total, m.board.columns())
	}
	m.board.show([]string{line})
}

// meteredReader and meteredWriter tell the meter what passes.
type meteredReader struct {
	io.Reader
	meter *meter
}

func (r meteredReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.meter.add(n)
	if err == io.EOF { // and who reads goes on with it
		r.meter.show()
	}
	return n, err
}

type meteredWriter struct {
	io.Writer
	meter *meter
}

func (w meteredWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.meter.add(n)
	return n, err
}
