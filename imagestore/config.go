package imagestore

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"

	"github.com/berth-runtime/berth/imagestore/layer"
	"github.com/berth-runtime/berth/imagestore/signature"
)

// Config is the [images] table of the configuration file.
type Config struct {
	// RegistryConfigDir holds one directory a registry, each with a hosts.toml, as containerd reads them.
	RegistryConfigDir string `toml:"registry_config_dir"`
	// RegistryAuthFile is a docker config.json with credentials of the node's own, for hosts that a pull brings none for. It needn't be there.
	RegistryAuthFile string `toml:"registry_auth_file"`
	// MaxParallelLayers is how many layers are fetched and unpacked at once, over all pulls. 0: two more than the processors, eight at most.
	MaxParallelLayers int `toml:"max_parallel_layers"`
	// PullProgressTimeout ends a pull when a transfer of it brought no byte for so long.
	PullProgressTimeout Duration `toml:"pull_progress_timeout"`
	// PullMinRate is the least that a connection must bring, in bytes a second of waiting for it, over half of PullProgressTimeout. A slower
	// one is replaced, by one to the next host if there is one. 0: anything is enough.
	PullMinRate int64 `toml:"pull_min_rate"`
	// ParallelRanges is how many parts of a layer of ParallelRangesFrom bytes or more are asked for at once, where the registry serves parts. 1: layers
	// come in one piece.
	ParallelRanges     int   `toml:"parallel_ranges"`
	ParallelRangesFrom int64 `toml:"parallel_ranges_from"`
	// LayerFormat is what layers are on the disk: LayerFormatDirectory, a directory of files each; LayerFormatErofs, one file each, which the kernel
	// mounts; LayerFormatAuto, that where the kernel and the file system below the store can.
	LayerFormat string `toml:"layer_format"`
	// KeepBlobs keeps layers as they came beside what they were unpacked to.
	KeepBlobs bool `toml:"keep_blobs"`
	// MaxImageBytes is the largest size of an image's files, unpacked.
	MaxImageBytes int64 `toml:"max_image_bytes"`
	// MaxImageEntries is the largest number of an image's files and directories.
	MaxImageEntries int64 `toml:"max_image_entries"`
	// MaxZstdWindow is the largest window, in bytes, that a layer compressed by zstd may need.
	MaxZstdWindow int64 `toml:"max_zstd_window"`
	// Pinned are the names of images that kubelet must not collect: references, or patterns as of path.Match.
	Pinned []string `toml:"pinned"`
	// Platform is what to choose from multi-platform images ("linux/amd64", "linux/arm64/v8"). Empty: the node's own.
	Platform string `toml:"platform"`
	// Verification is who must have signed images that are pulled.
	Verification signature.Policy `toml:"verification"`
}

// DefaultConfig returns what holds where the configuration file is silent.
func DefaultConfig() Config {
	return Config{
		RegistryConfigDir:   "/etc/berth/certs.d",
		RegistryAuthFile:    "/etc/berth/auth.json",
		PullMinRate:         1000,
		PullProgressTimeout: Duration(time.Minute),
		ParallelRanges:      4,
		ParallelRangesFrom:  64 << 20,
		LayerFormat:         LayerFormatAuto,
		MaxImageBytes:       256 << 30,
		MaxImageEntries:     10_000_000,
		MaxZstdWindow:       64 << 20,
		Pinned:              []string{},
		Verification:        signature.DefaultPolicy(),
	}
}

// budget is what one image may take.
func (c Config) budget() *layer.Budget {
	return layer.NewBudget(c.MaxImageBytes, c.MaxImageEntries, c.MaxZstdWindow)
}

// Validate names each field that can't be, on a line of its own.
func (c Config) Validate() error {
	var errs []error
	wrong := func(rule string, args ...any) { errs = append(errs, fmt.Errorf(rule, args...)) }
	if c.RegistryConfigDir != "" && !filepath.IsAbs(c.RegistryConfigDir) {
		wrong("registry_config_dir %q: must be an absolute path", c.RegistryConfigDir)
	}
	if c.RegistryAuthFile != "" && !filepath.IsAbs(c.RegistryAuthFile) {
		wrong("registry_auth_file %q: must be an absolute path", c.RegistryAuthFile)
	}
	if c.PullMinRate < 0 {
		wrong("pull_min_rate %d: must not be negative", c.PullMinRate)
	}
	if c.MaxParallelLayers < 0 {
		wrong("max_parallel_layers %d: must not be negative", c.MaxParallelLayers)
	}
	if c.ParallelRanges < 1 {
		wrong("parallel_ranges %d: must be positive", c.ParallelRanges)
	}
	if c.ParallelRangesFrom < 0 {
		wrong("parallel_ranges_from %d: must not be negative", c.ParallelRangesFrom)
	}
	if c.PullProgressTimeout <= 0 {
		wrong("pull_progress_timeout %q: must be positive", time.Duration(c.PullProgressTimeout))
	}
	if !slices.Contains([]string{LayerFormatAuto, LayerFormatDirectory, LayerFormatErofs}, c.LayerFormat) {
		wrong("layer_format %q: must be %q, %q or %q", c.LayerFormat, LayerFormatAuto, LayerFormatDirectory, LayerFormatErofs)
	}
	if c.MaxImageBytes <= 0 {
		wrong("max_image_bytes %d: must be positive", c.MaxImageBytes)
	}
	if c.MaxImageEntries <= 0 {
		wrong("max_image_entries %d: must be positive", c.MaxImageEntries)
	}
	if c.MaxZstdWindow < layer.MinWindow || c.MaxZstdWindow > layer.MaxWindow {
		wrong("max_zstd_window %d: must be from %d to %d", c.MaxZstdWindow, layer.MinWindow, layer.MaxWindow)
	}
	for _, pattern := range c.Pinned {
		if _, err := path.Match(pattern, ""); err != nil {
			wrong("pinned %q: %w", pattern, err)
		}
	}
	if c.Platform != "" {
		if _, err := platforms.Parse(c.Platform); err != nil {
			wrong("platform %q: %w", c.Platform, err)
		}
	}
	if err := c.Verification.Validate(); err != nil {
		wrong("verification.%s", strings.ReplaceAll(err.Error(), "\n", "\nverification."))
	}
	return errors.Join(errs...)
}

// Duration is a time.Duration that TOML files write as text ("1m30s").
type Duration time.Duration

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("read duration %q: %w", text, err)
	}
	*d = Duration(parsed)
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) {
	return []byte(time.Duration(d).String()), nil
}
