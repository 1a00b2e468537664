package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// feature is one thing of the node that berth uses. probe tries it for real where
// that leaves nothing behind, and returns what it found.
type feature struct {
	name     string
	required bool
	without  string // what is lost without it
	probe    func() (found string, err error)
}

func newCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Say what this node has and lacks for berth",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "berth: not root: what only root may try is reported as lacking")
			}
			return checkNode(cmd.OutOrStdout(), nodeFeatures())
		},
	}
}

// errLacking is that the node can't run berth.
var errLacking = errors.New("this node lacks what berth needs")

// checkNode prints a line a feature and what it comes to, and returns errLacking when one
// that is required isn't there.
func checkNode(out io.Writer, features []feature) error {
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	var lacking, missed []string
	for _, f := range features {
		found, err := f.probe()
		switch {
		case err == nil:
			fmt.Fprintf(table, "has\t%s\t%s\n", f.name, found)
		case f.required:
			lacking = append(lacking, f.name)
			fmt.Fprintf(table, "LACKS\t%s\t%v: %s\n", f.name, err, f.without)
		default:
			missed = append(missed, f.name)
			fmt.Fprintf(table, "lacks\t%s\t%v: %s\n", f.name, err, f.without)
		}
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	fmt.Fprintln(out)
	if len(lacking) > 0 {
		return fmt.Errorf("%w: %s", errLacking, strings.Join(lacking, ", "))
	}
	if len(missed) == 0 {
		fmt.Fprintln(out, "This node can run berth, with all that it can do.")
	} else {
		fmt.Fprintf(out, "This node can run berth; it does without %s.\n", strings.Join(missed, ", "))
	}
	return nil
}
