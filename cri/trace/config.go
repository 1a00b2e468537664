package trace

import (
	"errors"
	"fmt"
	"net"
	"strings"
)

// Config is the [tracing] table of the configuration file. kubelet's own has the same two keys.
type Config struct {
	// Endpoint is host:port of an OpenTelemetry collector that takes OTLP over gRPC, with https:// before it for TLS; "":
	// there are no traces.
	Endpoint string `toml:"endpoint"`
	// SamplingRatePerMillion is how many of a million requests are recorded of those that come without a trace.
	SamplingRatePerMillion int `toml:"sampling_rate_per_million"`
}

const overTLS = "https://"

const million = 1_000_000

// Validate returns every mistake in c, each named by its key.
func (c Config) Validate() error {
	var errs []error
	if c.Endpoint != "" {
		if _, _, err := net.SplitHostPort(strings.TrimPrefix(c.Endpoint, overTLS)); err != nil {
			errs = append(errs, fmt.Errorf("endpoint %q: must be host:port, or %shost:port", c.Endpoint, overTLS))
		}
	}
	if c.SamplingRatePerMillion < 0 || c.SamplingRatePerMillion > million {
		errs = append(errs, fmt.Errorf("sampling_rate_per_million %d: must be from 0 to %d", c.SamplingRatePerMillion, million))
	}
	return errors.Join(errs...)
}
