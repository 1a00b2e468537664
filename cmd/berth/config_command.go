package main

import (
	"bytes"
	"fmt"
	"io"

	"github.com/berth-runtime/berth/sandbox"
	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"
)

func newConfigCommand(flags *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the configuration in effect: the file, and flags over it",
		Args:  subcommandOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := flags.load()
			if err != nil {
				return err
			}
			return writeConfig(cmd.OutOrStdout(), cfg)
		},
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "default",
			Short: "Print the default configuration, with a comment on every key",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				_, err := io.WriteString(cmd.OutOrStdout(), exampleConfig)
				return err
			},
		},
		&cobra.Command{
			Use:   "check [FILE]",
			Short: "Check a configuration file, or without one what is in effect",
			Args:  cobra.MaximumNArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				if len(args) > 0 {
					return checkConfig(cmd.OutOrStdout(), args[0])
				}
				if _, err := flags.load(); err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), "configuration in effect: good")
				return nil
			},
		},
	)
	return cmd
}

func checkConfig(out io.Writer, path string) error {
	cfg, err := readConfig(path)
	if err != nil {
		return err
	}
	if err := cfg.Validate(); err != nil {
		return fromWhere(err, func(string) string { return path })
	}
	fmt.Fprintf(out, "%s: good\n", path)
	return nil
}

// inEffect is the configuration as crictl info shows it: by the file's keys, with paths that are left to berth as they came out.
func (c config) inEffect() map[string]any {
	c.Socket = c.socket()
	if path, err := c.keeper(); err == nil {
		c.Keeper = path
	}
	if c.Runtimes == nil {
		c.Runtimes = map[string]sandbox.Runtime{} // a table that isn't there isn't written
	}
	var text bytes.Buffer
	err := writeConfig(&text, c)
	tree := map[string]any{}
	if err == nil {
		err = toml.Unmarshal(text.Bytes(), &tree)
	}
	if err != nil { // a test has all keys go both ways
		return map[string]any{"error": err.Error()}
	}
	return tree
}

func writeConfig(out io.Writer, cfg config) error {
	e := toml.NewEncoder(out)
	e.SetIndentTables(false)
	if err := e.Encode(cfg); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}
