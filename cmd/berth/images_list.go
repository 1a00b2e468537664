package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func newListCommand(flags *configFlags) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List images", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			print, known := map[string]func(io.Writer, *v1.ListImagesResponse) error{"table": printTable, "json": printJSON}[format]
			if !known {
				return withUsage(cmd, fmt.Errorf("output %q: must be table or json", format))
			}
			return onDaemon(flags, func(ctx context.Context, conn *grpc.ClientConn, out io.Writer, _ []string) error {
				images, err := v1.NewImageServiceClient(conn).ListImages(ctx, &v1.ListImagesRequest{})
				if err != nil {
					return plain("list images", err)
				}
				return print(out, images)
			})(cmd, args)
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "table", "`format`: table, or json, which has all that CRI says of images, by crictl's keys")
	return cmd
}

func printTable(out io.Writer, images *v1.ListImagesResponse) error {
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tID\tSIZE")
	for _, image := range images.Images {
		for _, name := range imageNames(image) {
			fmt.Fprintf(table, "%s\t%s\t%s\n", name, shortID(image.Id), formatSize(image.Size))
		}
	}
	return table.Flush()
}

// printJSON indents anew what protojson gives, whose spaces are different from build to build by intent.
func printJSON(out io.Writer, images *v1.ListImagesResponse) error {
	raw, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(images)
	if err != nil {
		return fmt.Errorf("encode images: %w", err)
	}
	var text bytes.Buffer
	if err := json.Indent(&text, raw, "", "  "); err != nil {
		return fmt.Errorf("encode images: %w", err)
	}
	text.WriteByte('\n')
	_, err = text.WriteTo(out)
	return err
}
