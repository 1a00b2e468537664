package nri

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/containerd/nri/pkg/adaptation"
)

// Config is the [nri] table of the configuration file.
type Config struct {
	// Socket is where plugins connect; "": none may, and none is started.
	Socket string `toml:"socket"`
	// PluginDir has plugins that the daemon starts itself; "": none.
	PluginDir string `toml:"plugin_dir"`
	// PluginConfigDir has their configuration, NN-NAME.conf.
	PluginConfigDir string `toml:"plugin_config_dir"`
	// RequestTimeout is how long a plugin may take for one step, after which it is cut off.
	RequestTimeout Duration `toml:"request_timeout"`
}

// Duration is written as in "2s".
type Duration time.Duration

// UnmarshalText reads one.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// MarshalText writes one.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// DefaultConfig is what holds where the configuration file is silent.
func DefaultConfig() Config {
	return Config{PluginConfigDir: adaptation.DefaultPluginConfigPath, RequestTimeout: Duration(adaptation.DefaultPluginRequestTimeout)}
}

// longestSocket is what unix(7) leaves for a path.
const longestSocket = 107

// Validate returns every mistake in c, each named by its key.
func (c Config) Validate() error {
	var errs []error
	for _, p := range []struct{ key, value string }{{"socket", c.Socket}, {"plugin_dir", c.PluginDir}, {"plugin_config_dir", c.PluginConfigDir}} {
		if p.value != "" && !filepath.IsAbs(p.value) {
			errs = append(errs, fmt.Errorf("%s %q: must be an absolute path", p.key, p.value))
		}
	}
	if len(c.Socket) > longestSocket {
		errs = append(errs, fmt.Errorf("socket %q: is %d bytes long, and %d are possible", c.Socket, len(c.Socket), longestSocket))
	}
	if c.Socket == "" && c.PluginDir != "" {
		errs = append(errs, fmt.Errorf("plugin_dir %q: needs socket", c.PluginDir))
	}
	if c.RequestTimeout <= 0 {
		errs = append(errs, fmt.Errorf("request_timeout %v: must be more than 0", time.Duration(c.RequestTimeout)))
	}
	return errors.Join(errs...)
}
