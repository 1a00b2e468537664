// Command demo shows berth at work, and takes it away again:
//
//	demo up     starts a daemon of its own, runs a pod of two containers and shows it
//	demo down   ends all of that and leaves nothing
//
// Every command that it runs is printed, so that one can go on by hand. Both may be
// run twice.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("needs root: berth runs containers")
	}
	p, err := newPlace()
	if err != nil {
		return err
	}
	switch {
	case len(args) == 1 && args[0] == "up":
		return up(ctx, p)
	case len(args) == 1 && args[0] == "down":
		return down(ctx, p)
	}
	return fmt.Errorf("usage: demo up|down")
}
