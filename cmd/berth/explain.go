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
		Use:   "explain ID",
		Short: "The launch program that a container got, step by step, or those that made a pod",
		Long: `Prints when its creation and start did what, in microseconds since each began,
and then the system calls by which it was started, one line a step: when it began
(since the start did) and how long it took, "-" for a step that was passed over; the
call with its arguments, in [] which errors don't end it and where it goes on then,
behind # what it is for. <…> are descriptors that the daemon had prepared. Also of
containers that have exited, and of those whose start failed. ID is a container's or a pod's, or its beginning; when it may be
both, it is the container's without --pod.`,
		Args: cobra.ExactArgs(1),
		RunE: onDaemon(flags, func(ctx context.Context, conn *grpc.ClientConn, out io.Writer, args []string) error {
			return explain(ctx, conn, out, args[0], pod)
		}),
	}
	cmd.Flags().BoolVar(&pod, "pod", false, "ID is a pod's")
	return cmd
}

// explain takes an id that no container has for a pod's.
func explain(ctx context.Context, conn *grpc.ClientConn, out io.Writer, id string, pod bool) error {
	text, err := "", error(nil)
	if !pod {
		text, err = cri.ExplainContainer(ctx, conn, id)
		pod = cri.NotFound(err)
	}
	if pod {
		none := err
		if text, err = cri.ExplainPod(ctx, conn, id); none != nil && cri.NotFound(err) {
			return fmt.Errorf("explain %s: not found, neither as a container nor as a pod", id)
		}
	}
	if err != nil {
		return plain("explain", err)
	}
	if text == "" {
		text = fmt.Sprintf("pod %s has no namespaces of its own, and no process: nothing was launched for it\n", id)
	}
	_, err = io.WriteString(out, text)
	return err
}
