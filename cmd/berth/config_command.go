package main

import (
	"fmt"
	"io"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"
)

func newConfigCommand(flags *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the configuration in effect: the file, and flags over it",
		Args:  cobra.NoArgs,
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
		return fmt.Errorf("%s: %w", path, err)
	}
	fmt.Fprintf(out, "%s: good\n", path)
	return nil
}

func writeConfig(out io.Writer, cfg config) error {
	e := toml.NewEncoder(out)
	e.SetIndentTables(false)
	if err := e.Encode(cfg); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}
