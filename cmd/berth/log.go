package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/sirupsen/logrus"
)

// logConfig is the [log] table.
type logConfig struct {
	Level  string `toml:"level"`
	Format string `toml:"format"`
}

const (
	formatText = "text" // colours on a terminal, key=value otherwise
	formatJSON = "json"
)

func (c logConfig) Validate() error {
	var errs []error
	if _, err := logrus.ParseLevel(c.Level); err != nil {
		errs = append(errs, fmt.Errorf("level %q: must be trace, debug, info, warn or error", c.Level))
	}
	if c.Format != formatText && c.Format != formatJSON {
		errs = append(errs, fmt.Errorf("format %q: must be text or json", c.Format))
	}
	return errors.Join(errs...)
}

// newLogger makes the daemon's logger. Call Validate before.
func newLogger(c logConfig, out io.Writer) *logrus.Logger {
	log := logrus.New()
	log.SetOutput(out)
	if level, err := logrus.ParseLevel(c.Level); err == nil {
		log.SetLevel(level)
	}
	// RFC 3339 with nanoseconds, so that lines sort beside those of container logs.
	const stamp = "2006-01-02T15:04:05.000000000Z07:00"
	if c.Format == formatJSON {
		log.SetFormatter(&logrus.JSONFormatter{TimestampFormat: stamp})
	} else {
		log.SetFormatter(&logrus.TextFormatter{TimestampFormat: stamp, FullTimestamp: true})
	}
	log.AddHook(oneLine{})
	return log
}
