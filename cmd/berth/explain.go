package main

import (
	"context"
	"fmt"
	"io"

	"github.com/berth-runtime/berth/cri"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"
)

// newExplainCommand asks the running daemon what it had the kernel do for a container: what it kept of the
// start, not what it would do now.
func newExplainCommand(flags *configFlags) *cobra.Command {
	var pod bool
	cmd := &cobra.Command{
		Use:   "explain CONTAINER",
		Short: "The launch program that a container got, step by step; with --pod, those that made a pod",
		Long: `Prints when its creation and start did what, in microseconds since each began,
and then the system calls by which it was started, one line a step: when it began
(since the start did) and how long it took, "-" for a step that was passed over; the
call with its arguments, in [] which errors don't end it and where it goes on then,
behind # what it is for. <…> are descriptors that the daemon had prepared. Also of
containers that have exited, and of those whose start failed.`,
		Args: cobra.ExactArgs(1),
		RunE: onDaemon(flags, func(ctx context.Context, conn *grpc.ClientConn, out io.Writer, args []string) error {
			return explain(ctx, conn, out, args[0], pod)
		}),
	}
	cmd.Flags().BoolVar(&pod, "pod", false, "the argument is a pod's id")
	return cmd
}

func explain(ctx context.Context, conn *grpc.ClientConn, out io.Writer, id string, pod bool) error {
	ask := cri.ExplainContainer
	if pod {
		ask = cri.ExplainPod
	}
	text, err := ask(ctx, conn, id)
	if err != nil {
		return plain("explain", err)
	}
	if text == "" {
		text = fmt.Sprintf("pod %s has no namespaces of its own, and no process: nothing was launched for it\n", id)
	}
	_, err = io.WriteString(out, text)
	return err
}
