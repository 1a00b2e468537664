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

func newPruneCommand(flags *configFlags) *cobra.Command {
	var all, dry bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove images without a tag that no container uses",
		Args:  cobra.NoArgs,
		RunE: onDaemon(flags, func(ctx context.Context, conn *grpc.ClientConn, out io.Writer, _ []string) error {
			return pruneImages(ctx, conn, out, all, dry)
		}),
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "those with a tag too")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be removed")
	return cmd
}

// pruneImages looks at containers after images: one that is made meanwhile keeps its image's layers in any case.
func pruneImages(ctx context.Context, conn *grpc.ClientConn, out io.Writer, all, dry bool) error {
	client := v1.NewImageServiceClient(conn)
	images, err := client.ListImages(ctx, &v1.ListImagesRequest{})
	if err != nil {
		return plain("list images", err)
	}
	containers, err := v1.NewRuntimeServiceClient(conn).ListContainers(ctx, &v1.ListContainersRequest{})
	if err != nil {
		return plain("list containers", err)
	}
	used := map[string]bool{}
	for _, c := range containers.Containers {
		used[c.ImageId] = true
	}
	removed, size := 0, uint64(0)
	for _, image := range images.Images {
		if image.Pinned || used[image.Id] || !all && len(image.RepoTags) > 0 {
			continue
		}
		verb := "would be removed"
		if !dry {
			verb = "removed"
			if _, err := client.RemoveImage(ctx, &v1.RemoveImageRequest{Image: &v1.ImageSpec{Image: image.Id}}); err != nil {
				return plain("remove "+image.Id, err)
			}
		}
		removed, size = removed+1, size+image.Size
		fmt.Fprintln(out, verb, image.Id, strings.Join(imageNames(image), " "))
	}
	switch {
	case removed == 0:
		fmt.Fprintln(out, "nothing to remove")
	case dry:
		fmt.Fprintf(out, "%s would be freed at most, less where layers are shared\n", formatSize(size))
	default:
		fmt.Fprintf(out, "%s freed at most, less where layers are shared\n", formatSize(size))
	}
	return nil
}
