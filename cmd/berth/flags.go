package main

import (
	"errors"
	"os"
	"strings"

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
	name, key string
	apply     func(*config)
}

// addConfigFlags defines the flags. Only those that are given count, so the
// defaults shown are those of the configuration.
func addConfigFlags(fs *pflag.FlagSet) *configFlags {
	defaults := defaultConfig()
	f := &configFlags{from: fs}
	fs.StringVar(&f.file, "config", defaultConfigFile, "configuration `file`; the default one may be missing")
	text := func(name, key, value, usage string, apply func(*config, string)) {
		p := fs.String(name, value, usage)
		f.set = append(f.set, configFlag{name, key, func(c *config) { apply(c, *p) }})
	}
	list := func(name, key string, value []string, usage string, apply func(*config, []string)) {
		p := fs.StringSlice(name, value, usage)
		f.set = append(f.set, configFlag{name, key, func(c *config) { apply(c, *p) }})
	}
	text("root", "root", defaults.Root, "`directory` of images and records", func(c *config, v string) { c.Root = v })
	text("state", "state", defaults.State, "`directory` of what ends with the boot", func(c *config, v string) { c.State = v })
	text("socket", "socket", "", "`path` of the CRI socket (default STATE/berth.sock)", func(c *config, v string) { c.Socket = v })
	text("keeper", "keeper", "", "`path` of berth-keeper (default: beside berth)", func(c *config, v string) { c.Keeper = v })
	text("log-level", "log.level", defaults.Log.Level, "trace, debug, info, warn or error", func(c *config, v string) { c.Log.Level = v })
	text("log-format", "log.format", defaults.Log.Format, "text or json", func(c *config, v string) { c.Log.Format = v })
	text("registry-config-dir", "images.registry_config_dir", defaults.Images.RegistryConfigDir, "`directory` of the registries' hosts.toml",
		func(c *config, v string) { c.Images.RegistryConfigDir = v })
	text("cni-conf-dir", "network.conf_dir", defaults.Network.ConfDir, "`directory` of CNI configuration lists",
		func(c *config, v string) { c.Network.ConfDir = v })
	list("cni-bin-dir", "network.bin_dirs", defaults.Network.BinDirs, "`directories` of CNI plugins",
		func(c *config, v []string) { c.Network.BinDirs = v })
	return f
}

// load returns the configuration in effect: defaults, the file over them, the
// flags over it, checked. Its error names each value that can't be, and where it is from.
func (f *configFlags) load() (config, error) {
	cfg, err := readConfig(f.file)
	file := f.file
	if errors.Is(err, os.ErrNotExist) && !f.from.Changed("config") {
		cfg, file, err = defaultConfig(), "", nil
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
		return cfg, fromWhere(err, func(line string) string { return f.origin(line, file) })
	}
	return cfg, nil
}

// fromWhere puts before each of joined errors where it is from.
func fromWhere(err error, origin func(line string) string) error {
	var errs []error
	for line := range strings.SplitSeq(err.Error(), "\n") {
		errs = append(errs, errors.New(origin(line)+": "+line))
	}
	return errors.Join(errs...)
}

// origin says where the value is from whose error begins with its key: a flag, or else the file; "" is none.
func (f *configFlags) origin(err, file string) string {
	key, _, _ := strings.Cut(err, " ")
	if key == "socket" && !f.from.Changed("socket") && f.from.Changed("state") {
		key = "state" // below which the socket is then
	}
	for _, flag := range f.set {
		if flag.key == key && f.from.Changed(flag.name) {
			return "--" + flag.name
		}
	}
	if file != "" {
		return file
	}
	return "configuration"
}
