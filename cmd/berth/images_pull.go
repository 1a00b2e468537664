package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/berth-runtime/berth/cri"
	"github.com/berth-runtime/berth/imagestore"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
)

func newPullCommand(flags *configFlags) *cobra.Command {
	var creds string
	cmd := &cobra.Command{
		Use: "pull REFERENCE…", Short: "Pull images", Args: cobra.MinimumNArgs(1),
		Long: "Pull images, with the node's own credentials (images.registry_auth_file) where a registry wants some, or those of\n--creds. On a terminal, how far each layer is stands on standard error.",
		RunE: onDaemon(flags, func(ctx context.Context, conn *grpc.ClientConn, out io.Writer, refs []string) error {
			auth, err := parseCredentials(ctx, creds, os.Stdin)
			if err != nil {
				return err
			}
			return pullImages(ctx, conn, out, refs, auth)
		}),
	}
	cmd.Flags().StringVar(&creds, "creds", "", "`USER[:PASSWORD]` for the registry; without a password it is the first line of standard input")
	return cmd
}

func pullImages(ctx context.Context, conn *grpc.ClientConn, out io.Writer, refs []string, auth *imagestore.Auth) error {
	for _, ref := range refs {
		board := newBoard(os.Stderr)
		id, err := cri.PullImage(ctx, conn, ref, auth, func(layers []imagestore.LayerProgress) { board.show(layerLines(layers)) })
		board.clear()
		if err != nil {
			return plain("pull "+ref, err)
		}
		fmt.Fprintln(out, id, ref)
	}
	return nil
}

// layerLines tells of each layer in a line. Of many layers those that are done go together.
func layerLines(layers []imagestore.LayerProgress) []string {
	const most = 20
	var lines []string
	done := 0
	for _, l := range layers {
		if len(layers) > most && (l.State == imagestore.LayerDone || l.State == imagestore.LayerHere) {
			done++
			continue
		}
		lines = append(lines, layerLine(l))
	}
	if done > 0 {
		lines = append(lines, fmt.Sprintf("%d layers are done", done))
	}
	if len(lines) > most {
		lines = append(lines[:most], fmt.Sprintf("and %d more", len(lines)-most))
	}
	return lines
}

func layerLine(l imagestore.LayerProgress) string {
	if l.State != imagestore.LayerPulling {
		return fmt.Sprintf("%s  %-7s  %s", shortID(l.Blob), l.State, formatSize(uint64(l.Total)))
	}
	return fmt.Sprintf("%s  %s  %s of %s", shortID(l.Blob), bar(l.Received, l.Total), formatSize(uint64(l.Received)), formatSize(uint64(l.Total)))
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

// board is a few lines at the end of a terminal that are drawn over. On anything else it draws nothing.
type board struct {
	out   *os.File
	lines int
}

func newBoard(out *os.File) *board {
	if !isTerminal(out) {
		return &board{}
	}
	return &board{out: out}
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// show replaces what is shown. "\x1b[nF" goes n lines up, "\x1b[J" clears what follows (ECMA-48: CPL, ED).
func (b *board) show(lines []string) {
	if b.out == nil {
		return
	}
	b.clear()
	fmt.Fprint(b.out, strings.Join(append(lines, ""), "\n"))
	b.lines = len(lines)
}

func (b *board) clear() {
	if b.out == nil || b.lines == 0 {
		return
	}
	fmt.Fprintf(b.out, "\x1b[%dF\x1b[J", b.lines)
	b.lines = 0
}

// meter shows how much of a stream has passed.
type meter struct {
	board *board
	what  string
	total int64 // 0: unknown
	sum   int64
	shown int64
}

func (m *meter) add(n int) {
	m.sum += int64(n)
	if m.sum-m.shown < 4<<20 {
		return
	}
	m.shown = m.sum
	line := m.what + "  " + formatSize(uint64(m.sum))
	if m.total > 0 {
		line = m.what + "  " + bar(m.sum, m.total) + "  " + formatSize(uint64(m.sum)) + " of " + formatSize(uint64(m.total))
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
