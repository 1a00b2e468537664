package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/berth-runtime/berth/cri"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"
)

func newImportCommand(flags *configFlags) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Import an archive (OCI layout or docker save, also compressed); - reads standard input",
		Args:  cobra.ExactArgs(1),
		RunE: onDaemon(flags, func(ctx context.Context, conn *grpc.ClientConn, out io.Writer, args []string) error {
			return importImage(ctx, conn, out, args[0], name)
		}),
	}
	cmd.Flags().StringVar(&name, "name", "", "`reference` for an image that the archive gives no name")
	return cmd
}

func importImage(ctx context.Context, conn *grpc.ClientConn, out io.Writer, path, name string) error {
	archive := os.Stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("open archive: %w", err)
		}
		defer f.Close()
		archive = f
	}
	if isTerminal(archive) {
		return errors.New("import: an archive doesn't come from a terminal: name a file, or redirect standard input")
	}
	m := &meter{board: newBoard(os.Stderr), what: "import"}
	if info, err := archive.Stat(); err == nil && info.Mode().IsRegular() {
		m.total = info.Size()
	}
	images, err := cri.ImportImage(ctx, conn, meteredReader{archive, m}, name)
	m.board.clear()
	if err != nil {
		return plain("import "+path, err)
	}
	for _, image := range images {
		fmt.Fprintln(out, image.Id, strings.Join(image.RepoTags, " "))
	}
	return nil
}

func newExportCommand(flags *configFlags) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "export [-o FILE] REFERENCE…",
		Short: "Export images to an archive: an OCI layout, which docker load takes too",
		Args:  cobra.MinimumNArgs(1),
		RunE: onDaemon(flags, func(ctx context.Context, conn *grpc.ClientConn, out io.Writer, args []string) error {
			return exportImages(ctx, conn, out, args, path)
		}),
	}
	cmd.Flags().StringVarP(&path, "output", "o", "-", "the archive's `file`; - is standard output")
	return cmd
}

// hintAtOutput is for who gave the archive's file as if it were an image.
func hintAtOutput(err error, refs []string) error {
	for _, ref := range refs {
		if file := archiveName.MatchString(ref); err != nil && file {
			return fmt.Errorf("%w (to write the archive to %s: -o %[2]s)", err, ref)
		}
	}
	return err
}

// archiveName is what people call archives, or a path, which no reference is.
var archiveName = regexp.MustCompile(`^[./]|\.(tar|tgz|tar\.gz|tar\.zst|oci)$`)

// exportImages leaves nothing of an archive that didn't become whole.
func exportImages(ctx context.Context, conn *grpc.ClientConn, out io.Writer, refs []string, path string) error {
	m := &meter{board: newBoard(os.Stderr), what: "export"}
	defer m.board.clear()
	if path == "-" {
		if f, is := out.(*os.File); is && isTerminal(f) {
			return errors.New("export: an archive isn't for a terminal: name a file by -o, or redirect standard output")
		}
		return hintAtOutput(plain("export", cri.ExportImages(ctx, conn, refs, meteredWriter{out, m})), refs)
	}
	file, err := createOutput(path)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if err := cri.ExportImages(ctx, conn, refs, meteredWriter{file, m}); err != nil {
		file.discard()
		return plain("export", err)
	}
	if err := file.commit(); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}
