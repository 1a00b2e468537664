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
//	berth version
//
// Below ROOT (/var/lib/berth) lies what outlives a boot, below STATE (/run/berth)
// what doesn't: berth.lock in both, flocked by the daemon that serves them, and the
// socket in STATE. Each room documents its own directory.
package main

import (
	"context"
	"fmt"
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
		fmt.Fprintln(os.Stderr, "berth:", err)
		os.Exit(1)
	}
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "berth",
		Short:         "A Kubernetes node runtime",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
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
	return root
}
