package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/berth-runtime/berth/cri"
	"github.com/berth-runtime/berth/imagestore"
	"github.com/spf13/cobra"
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

// pullImages pulls all that it can, and says of each of the others why not.
func pullImages(ctx context.Context, conn *grpc.ClientConn, out io.Writer, refs []string, auth *imagestore.Auth) error {
	var failed []error
	for _, ref := range refs {
		board := newBoard(os.Stderr)
		id, err := cri.PullImage(ctx, conn, ref, auth, func(layers []imagestore.LayerProgress) { board.show(layerLines(layers, board.columns(), board.rows())) })
		board.clear()
		switch {
		case err == nil:
			fmt.Fprintln(out, id, ref)
		case ctx.Err() != nil: // the others would fail likewise
			return errors.Join(append(failed, plain("pull "+ref, err))...)
		default:
			failed = append(failed, plain("pull "+ref, err))
		}
	}
	return errors.Join(failed...)
}

// mostLayerLines is how many lines a pull shows at most, where the terminal has room for them.
const mostLayerLines = 21

// layerLines tells of each layer in a line, of at most so many columns and lines. Of many layers those that are done go together, and those that wait
// come last.
func layerLines(layers []imagestore.LayerProgress, columns, rows int) []string {
	rows = max(min(rows, mostLayerLines), 1)
	var lines, waiting []string
	done := 0
	for _, l := range layers {
		switch line := layerLine(l, columns); {
		case len(layers) < rows || l.State == imagestore.LayerPulling:
			lines = append(lines, line)
		case l.State == imagestore.LayerDone || l.State == imagestore.LayerHere:
			done++
		default:
			waiting = append(waiting, line)
		}
	}
	lines = append(lines, waiting...)
	if done > 0 {
		lines = append(lines, fmt.Sprintf("%d layers are done", done))
	}
	if len(lines) > rows {
		lines = append(lines[:rows-1], fmt.Sprintf("and %d more", len(lines)-rows+1))
	}
	return lines
}

func layerLine(l imagestore.LayerProgress, columns int) string {
	if l.State != imagestore.LayerPulling {
		return fmt.Sprintf("%s  %-7s  %s", shortID(l.Blob), l.State, formatSize(uint64(l.Total)))
	}
	return partLine(shortID(l.Blob), l.Received, l.Total, columns)
}
