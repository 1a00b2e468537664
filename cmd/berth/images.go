package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// newImagesCommand asks the running daemon: by CRI, and by berth's own methods for
// what CRI doesn't have.
func newImagesCommand(flags *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use: "images", Short: "Images of the running daemon",
		Args:        subcommandOnly,
		RunE:        func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Annotations: map[string]string{bareHelps: "yes"},
	}
	cmd.AddCommand(newImportCommand(flags), newExportCommand(flags), newPullCommand(flags), newVerifyCommand(flags), newPruneCommand(flags),
		newListCommand(flags), newRemoveCommand(flags))
	return cmd
}

// onDaemon makes a cobra function of one that needs the daemon.
func onDaemon(flags *configFlags, run func(context.Context, *grpc.ClientConn, io.Writer, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		cfg, err := flags.load()
		if err != nil {
			return err
		}
		conn, err := dial(cfg.socket())
		if err != nil {
			return err
		}
		defer conn.Close()
		return run(cmd.Context(), conn, cmd.OutOrStdout(), args)
	}
}

// imageNames gives an image a line for each tag, and one for an image without any.
func imageNames(image *v1.Image) []string {
	switch {
	case len(image.RepoTags) > 0:
		return image.RepoTags
	case len(image.RepoDigests) > 0:
		return image.RepoDigests
	}
	return []string{"<none>"}
}

// shortID gives the 12 hex characters that people type.
func shortID(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(len(id), 12)]
}

func formatSize(n uint64) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, prefix := float64(n)/unit, 0
	for value >= unit {
		value, prefix = value/unit, prefix+1
	}
	return fmt.Sprintf("%.1f %cB", value, "kMGTPE"[prefix])
}

// counted writes a number of things.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
