package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// guide has every command of root say how it is called when it is called wrongly, and its help leave out those of the
// flags of all commands that change nothing for it.
func guide(root *cobra.Command) {
	throughout(root, func(cmd *cobra.Command) {
		if check := cmd.Args; check != nil {
			cmd.Args = func(cmd *cobra.Command, args []string) error { return withUsage(cmd, check(cmd, args)) }
		}
	})
	root.SetFlagErrorFunc(withUsage)
	root.SetHelpCommand(newHelpCommand(root))
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		hidden := hideFlags(root.PersistentFlags(), flagsThatMatter(cmd))
		help(cmd, args)
		if hidden {
			fmt.Fprintf(cmd.OutOrStdout(), "\n%q shows the flags that all commands take.\n", root.Name()+" --help")
		}
	})
}

// newHelpCommand is cobra's, but that it refuses a command that isn't there as the command itself would be.
func newHelpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Help about any command",
		RunE: func(_ *cobra.Command, args []string) error {
			found, rest, err := root.Find(args)
			if err == nil {
				err = subcommandOnly(found, rest)
			}
			if err != nil {
				return withUsage(found, err)
			}
			found.InitDefaultHelpFlag()
			found.InitDefaultVersionFlag()
			return found.Help()
		},
	}
}

// throughout calls f for a command and all below it.
func throughout(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	for _, sub := range cmd.Commands() {
		throughout(sub, f)
	}
}

// subcommandOnly refuses what isn't a command below cmd. Without it, and a function to run, cobra takes a mistyped command for a call
// for help.
func subcommandOnly(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2 // letters, as in cobra's own
	meant := ""
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		meant = fmt.Sprintf(" (is %s meant?)", strings.Join(near, " or "))
	}
	return fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), meant)
}

// withUsage adds a line with the command's usage to what is wrong with its arguments.
func withUsage(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w\nusage: %s", err, usageLine(cmd))
}

// usageLine is what can follow the command, its subcommands where it has some.
func usageLine(cmd *cobra.Command) string {
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	if len(names) == 0 {
		return cmd.UseLine()
	}
	line := cmd.CommandPath() + " " + strings.Join(names, "|")
	if cmd.Runnable() && cmd.Annotations[bareHelps] == "" {
		line += ", or " + cmd.CommandPath()
	}
	return line
}

// bareHelps marks a command that without a subcommand prints its help.
const bareHelps = "bare helps"

// flagsThatMatter are those of the flags of all commands that a command's help shows. All of them are taken by all, so that
// a shell's alias can have one.
func flagsThatMatter(cmd *cobra.Command) []string {
	for cmd.HasParent() && cmd.Parent().HasParent() {
		cmd = cmd.Parent()
	}
	switch cmd.Name() {
	case "images", "pull", "explain": // they ask a daemon, and want to know where it is
		return []string{"config", "state", "socket"}
	case "check", "version", "completion", "help":
		return nil
	}
	return []string{everyFlag} // root's own help, and of what the configuration is the work
}

const everyFlag = "*"

// hideFlags leaves the named flags to be seen, and says whether there are others.
func hideFlags(flags *pflag.FlagSet, seen []string) (hidden bool) {
	flags.VisitAll(func(f *pflag.Flag) {
		f.Hidden = !slices.Contains(seen, everyFlag) && !slices.Contains(seen, f.Name)
		hidden = hidden || f.Hidden
	})
	return hidden
}
