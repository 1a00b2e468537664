// Command berth is the node runtime's daemon, and the operator's command beside
// it. It is the one place that knows every room, and wires them together; it
// decides nothing about pods.
//
//	berth serve            the daemon
//	berth config           the configuration in effect; its defaults; a check of a file
//	berth images           images of the running daemon: list, pull, rm, prune, import, export, verify
//	berth pull             the same as berth images pull
//	berth explain          the launch program that a container got, step by step
//	berth check            what this node has and lacks
//	berth version          also --version
//
// Below ROOT (/var/lib/berth) lies what outlives a boot, below STATE (/run/berth)
// what doesn't: berth.lock in both, flocked by the daemon that serves them, and the
// socket in STATE. Each room documents its own directory.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	// After the first signal the usual effect is back: a second one ends the process at once.
	context.AfterFunc(ctx, stop)
	err := newRootCommand().ExecuteContext(ctx)
	if err != nil {
		complain(os.Stderr, err)
		os.Exit(1)
	}
}

// complain prints an error, and those that were joined one by one.
func complain(out io.Writer, err error) {
	if joined, is := err.(interface{ Unwrap() []error }); is && err.Error() == errors.Join(joined.Unwrap()...).Error() {
		for _, err := range joined.Unwrap() {
			complain(out, err)
		}
		return
	}
	fmt.Fprintln(out, "berth:", err)
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "berth",
		Short:         "A Kubernetes node runtime",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
		Args:          subcommandOnly,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Annotations:   map[string]string{bareHelps: "yes"},
	}
	root.SetVersionTemplate(versionLine())
	flags := addConfigFlags(root.PersistentFlags())
	root.AddCommand(
		newServeCommand(flags),
		newConfigCommand(flags),
		newImagesCommand(flags),
		newPullCommand(flags),
		newExplainCommand(flags),
		newCheckCommand(),
		newVersionCommand(),
	)
	guide(root)
	return root
}
