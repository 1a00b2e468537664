package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/berth-runtime/berth/cni"
	"github.com/berth-runtime/berth/cri"
	"github.com/berth-runtime/berth/cri/stream"
	"github.com/berth-runtime/berth/cri/trace"
	"github.com/berth-runtime/berth/imagestore"
	"github.com/berth-runtime/berth/nri"
	"github.com/berth-runtime/berth/sandbox"
	"github.com/pelletier/go-toml/v2"
)

// defaultConfigFile is read when it is there and --config isn't given.
const defaultConfigFile = "/etc/berth/config.toml"

// exampleConfig shows every key with its default; a test holds it to that.
//
//go:embed example.toml
var exampleConfig string

// config is the configuration file: a few keys of the daemon itself, and the
// rooms' own tables.
type config struct {
	Root      string             `toml:"root"`
	State     string             `toml:"state"`
	Socket    string             `toml:"socket"` // "": STATE/berth.sock
	Keeper    string             `toml:"keeper"` // "": beside berth
	Log       logConfig          `toml:"log"`
	Sandbox   sandbox.Config     `toml:"sandbox"`
	Images    imagestore.Config  `toml:"images"`
	Network   cni.Config         `toml:"network"`
	Streaming stream.Config      `toml:"streaming"`
	API       cri.APIConfig      `toml:"cri"`
	Cadvisor  cri.CadvisorConfig `toml:"cadvisor"`
	NRI       nri.Config         `toml:"nri"`
	Tracing   trace.Config       `toml:"tracing"`
	// Runtimes are others than berth's own, by the handler's name in RuntimeClasses.
	Runtimes map[string]sandbox.Runtime `toml:"runtimes"`
}

func defaultConfig() config {
	return config{
		Root:      "/var/lib/berth",
		State:     "/run/berth",
		Log:       logConfig{Level: "info", Format: formatText},
		Sandbox:   sandbox.DefaultConfig(),
		Images:    imagestore.DefaultConfig(),
		Network:   cni.DefaultConfig(),
		Streaming: stream.DefaultConfig(),
		NRI:       nri.DefaultConfig(),
	}
}

// socket returns the path of the daemon's socket.
func (c config) socket() string {
	if c.Socket != "" {
		return c.Socket
	}
	return filepath.Join(c.State, "berth.sock")
}

// keeper returns the path of berth-keeper: the configured one, or the one beside
// this executable.
func (c config) keeper() (string, error) {
	if c.Keeper != "" {
		return c.Keeper, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find berth-keeper: %w", err)
	}
	return filepath.Join(filepath.Dir(self), "berth-keeper"), nil
}

// longestSocket is what unix(7) leaves for a path (108 bytes with the NUL), less
// the ".new" of a socket that is being put in place.
const longestSocket = 107 - len(".new")

// Validate names each key that can't be, in an error of its own (errors.Join).
func (c config) Validate() error {
	var errs []error
	wrong := func(rule string, args ...any) { errs = append(errs, fmt.Errorf(rule, args...)) }
	for _, p := range []struct{ key, value string }{{"root", c.Root}, {"state", c.State}, {"socket", c.Socket}} {
		if !filepath.IsAbs(p.value) && (p.key != "socket" || p.value != "") {
			wrong("%s %q: must be an absolute path", p.key, p.value)
		}
	}
	if c.Keeper != "" && !filepath.IsAbs(c.Keeper) {
		wrong("keeper %q: must be an absolute path", c.Keeper)
	}
	if n := len(c.socket()); n > longestSocket {
		wrong("socket %q: is %d bytes long, and %d are possible", c.socket(), n, longestSocket)
	}
	for _, room := range []struct {
		table    string
		validate func() error
	}{
		{"log", c.Log.Validate},
		{"sandbox", c.Sandbox.Validate},
		{"images", c.Images.Validate},
		{"network", c.Network.Validate},
		{"runtimes", func() error { return sandbox.ValidateRuntimes(c.Runtimes) }},
		{"streaming", c.Streaming.Validate},
		{"cadvisor", c.Cadvisor.Validate},
		{"nri", c.NRI.Validate},
		{"tracing", c.Tracing.Validate},
	} {
		if err := room.validate(); err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") { // a room's errors are joined: one a line
				wrong("%s.%s", room.table, line)
			}
		}
	}
	return errors.Join(errs...)
}

// readConfig reads a file over the defaults. Keys that don't exist are errors, all
// of them named with their lines. It doesn't Validate: flags come over it first.
func readConfig(path string) (config, error) {
	cfg := defaultConfig()
	data, err := os.ReadFile(path)
	if err != nil {
		return cfg, fmt.Errorf("read configuration: %w", err)
	}
	return cfg, decodeConfig(path, data, &cfg)
}

func decodeConfig(path string, data []byte, into *config) error {
	d := toml.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) {
		errs := make([]error, 0, len(unknown.Errors))
		for _, e := range unknown.Errors {
			row, column := e.Position()
			errs = append(errs, fmt.Errorf("%s:%d:%d: no such key: %s", path, row, column, strings.Join(e.Key(), ".")))
		}
		return errors.Join(errs...)
	}
	var bad *toml.DecodeError
	if errors.As(err, &bad) {
		row, column := bad.Position()
		return fmt.Errorf("%s:%d:%d: %s", path, row, column, plainDecodeError(bad))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// plainDecodeError says for people what go-toml says with the names of Go's types and
// fields: the key, what stands there, and what may.
func plainDecodeError(err *toml.DecodeError) string {
	text := strings.TrimPrefix(err.Error(), "toml: ")
	is, field, mismatch := strings.Cut(text, " into struct field ")
	if !mismatch {
		return text
	}
	_, kind, _ := strings.Cut(field, " of type ")
	key := ""
	if len(err.Key()) > 0 {
		key = strings.Join(err.Key(), ".") + ": "
	}
	return key + strings.TrimPrefix(is, "cannot decode TOML ") + ", where " + kind + " is wanted"
}
