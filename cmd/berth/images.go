package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// newImagesCommand asks the running daemon: by CRI, and by berth's own methods for
// what CRI doesn't have.
func newImagesCommand(flags *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use: "images", Short: "Images of the running daemon",
		Args: cobra.NoArgs, // without a function to run, cobra takes a mistyped command for a call for help
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newImportCommand(flags), newExportCommand(flags), newPullCommand(flags), newVerifyCommand(flags), newPruneCommand(flags),
		&cobra.Command{
			Use: "list", Aliases: []string{"ls"}, Short: "List images", Args: cobra.NoArgs,
			RunE: onDaemon(flags, listImages),
		},
		&cobra.Command{
			Use: "rm REFERENCE…", Short: "Remove images, with all of their names", Args: cobra.MinimumNArgs(1),
			RunE: onDaemon(flags, removeImages),
		},
	)
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

func listImages(ctx context.Context, conn *grpc.ClientConn, out io.Writer, _ []string) error {
	response, err := v1.NewImageServiceClient(conn).ListImages(ctx, &v1.ListImagesRequest{})
	if err != nil {
		return plain("list images", err)
	}
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tID\tSIZE")
	for _, image := range response.Images {
		for _, name := range imageNames(image) {
			fmt.Fprintf(table, "%s\t%s\t%s\n", name, shortID(image.Id), formatSize(image.Size))
		}
	}
	return table.Flush()
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

// removeImages says which images weren't there: CRI takes their removal for done, a person may have mistyped. The others are removed all the same.
func removeImages(ctx context.Context, conn *grpc.ClientConn, out io.Writer, refs []string) error {
	client := v1.NewImageServiceClient(conn)
	var failed error
	for _, ref := range refs {
		id, err := removeImage(ctx, client, ref)
		if err == nil {
			fmt.Fprintln(out, "removed", id)
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

// removeImage returns the id that the image had.
func removeImage(ctx context.Context, client v1.ImageServiceClient, ref string) (string, error) {
	spec := &v1.ImageSpec{Image: ref}
	known, err := client.ImageStatus(ctx, &v1.ImageStatusRequest{Image: spec})
	if err != nil {
		return "", plain("find "+ref, err)
	}
	if known.Image == nil {
		return "", fmt.Errorf("remove %s: no such image", ref)
	}
	if _, err := client.RemoveImage(ctx, &v1.RemoveImageRequest{Image: spec}); err != nil {
		return "", plain("remove "+ref, err)
	}
	return known.Image.Id, nil
}
