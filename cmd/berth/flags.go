package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"
)

// configFlags are the flags over the configuration file.
type configFlags struct {
	file string
	set  []configFlag
	from *pflag.FlagSet
}

// configFlag puts one flag's value into the configuration.
type configFlag struct {
	name  string
	apply func(*config)
}

// addConfigFlags defines the flags. Only those that are given count, so the
// defaults shown are those of the configuration.
func addConfigFlags(fs *pflag.FlagSet) *configFlags {
	defaults := defaultConfig()
	f := &configFlags{from: fs}
	fs.StringVar(&f.file, "config", defaultConfigFile, "configuration `file`; the default one may be missing")
	text := func(name, value, usage string, apply func(*config, string)) {
		p := fs.String(name, value, usage)
		f.set = append(f.set, configFlag{name, func(c *config) { apply(c, *p) }})
	}
	list := func(name string, value []string, usage string, apply func(*config, []string)) {
		p := fs.StringSlice(name, value, usage)
		f.set = append(f.set, configFlag{name, func(c *config) { apply(c, *p) }})
	}
	text("root", defaults.Root, "`directory` of images and records", func(c *config, v string) { c.Root = v })
	text("state", defaults.State, "`directory` of what ends with the boot", func(c *config, v string) { c.State = v })
	text("socket", "", "`path` of the CRI socket (default STATE/berth.sock)", func(c *config, v string) { c.Socket = v })
	text("keeper", "", "`path` of berth-keeper (default: beside berth)", func(c *config, v string) { c.Keeper = v })
	text("log-level", defaults.Log.Level, "trace, debug, info, warn or error", func(c *config, v string) { c.Log.Level = v })
	text("log-format", defaults.Log.Format, "text or json", func(c *config, v string) { c.Log.Format = v })
	text("registry-config-dir", defaults.Images.RegistryConfigDir, "`directory` of the registries' hosts.toml",
		func(c *config, v string) { c.Images.RegistryConfigDir = v })
	text("cni-conf-dir", defaults.Network.ConfDir, "`directory` of CNI configuration lists",
		func(c *config, v string) { c.Network.ConfDir = v })
	list("cni-bin-dir", defaults.Network.BinDirs, "`directories` of CNI plugins",
		func(c *config, v []string) { c.Network.BinDirs = v })
	return f
}

// load returns the configuration in effect: defaults, the file over them, the
// flags over it, checked.
func (f *configFlags) load() (config, error) {
	cfg, err := readConfig(f.file)
	if errors.Is(err, os.ErrNotExist) && !f.from.Changed("config") {
		cfg, err = defaultConfig(), nil
	}
	if err != nil {
		return cfg, err
	}
	for _, flag := range f.set {
		if f.from.Changed(flag.name) {
			flag.apply(&cfg)
		}
	}
	if err := cfg.Validate(); err != nil {
		return cfg, fmt.Errorf("configuration of %s and flags: %w", f.file, err)
	}
	return cfg, nil
}
