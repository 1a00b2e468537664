package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func newRemoveCommand(flags *configFlags) *cobra.Command {
	return &cobra.Command{
		Use: "rm REFERENCE…", Short: "Remove images, with all of their names", Args: cobra.MinimumNArgs(1),
		Long: `Remove images, with all of their names. Containers of a removed image go on running: its layers stay until
the last of them is removed, and those containers are named.`,
		RunE: onDaemon(flags, removeImages),
	}
}

// removeImages says which images weren't there: CRI takes their removal for done, a person may have mistyped. The others are removed all the same.
func removeImages(ctx context.Context, conn *grpc.ClientConn, out io.Writer, refs []string) error {
	client := v1.NewImageServiceClient(conn)
	users, err := v1.NewRuntimeServiceClient(conn).ListContainers(ctx, &v1.ListContainersRequest{})
	if err != nil {
		return plain("list containers", err)
	}
	var failed error
	for _, ref := range refs {
		id, err := removeImage(ctx, client, ref)
		if err == nil {
			fmt.Fprintln(out, "removed", id+stays(id, users.Containers))
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

// mostUsers is how many of an image's containers are named.
const mostUsers = 5

// stays says of a removed image whose containers are still there that its layers are too; "" when nobody has it.
func stays(image string, containers []*v1.Container) string {
	var users []string
	for _, c := range containers {
		if c.ImageId == image {
			users = append(users, fmt.Sprintf("%s (%s)", c.GetMetadata().GetName(), shortID(c.Id)))
		}
	}
	if len(users) == 0 {
		return ""
	}
	count := counted(len(users), "container")
	if more := len(users) - mostUsers; more > 0 {
		users = append(users[:mostUsers], fmt.Sprintf("and %d more", more))
	}
	return fmt.Sprintf("; its layers stay for %s: %s", count, strings.Join(users, ", "))
}
