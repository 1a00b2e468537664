package main

import (
	"context"
	"fmt"
	"io"

	"github.com/berth-runtime/berth/cri"
	"github.com/berth-runtime/berth/imagestore"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"
)

func newVerifyCommand(flags *configFlags) *cobra.Command {
	var repair bool
	cmd := &cobra.Command{
		Use:   "verify [REFERENCE…]",
		Short: "Read layers again and compare them with what was pulled; without references those of all images",
		RunE: onDaemon(flags, func(ctx context.Context, conn *grpc.ClientConn, out io.Writer, args []string) error {
			return verifyImages(ctx, conn, out, args, repair)
		}),
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "pull damaged layers again")
	return cmd
}

// verifyImages fails when something is damaged and stays so.
func verifyImages(ctx context.Context, conn *grpc.ClientConn, out io.Writer, refs []string, repair bool) error {
	layers, damaged := 0, 0
	err := cri.VerifyImages(ctx, conn, refs, repair, func(c imagestore.LayerCheck) {
		if c.Layer != "" {
			layers++
		}
		state := "damaged"
		switch {
		case c.Problem == "":
			return
		case c.Repaired:
			state = "repaired"
		case !c.Damaged:
			state = "not checked"
		default:
			damaged++
		}
		what := "image " + shortID(c.Image)
		if c.Layer != "" { // it went with its image meanwhile
			what = "layer " + shortID(c.Layer) + " of " + what
		}
		fmt.Fprintf(out, "%s: %s: %s\n", state, what, c.Problem)
	})
	if err != nil {
		return plain("verify", err)
	}
	fmt.Fprintln(out, counted(layers, "layer")+" read")
	if damaged > 0 {
		return fmt.Errorf("verify: damaged layers: %d", damaged)
	}
	return nil
}
