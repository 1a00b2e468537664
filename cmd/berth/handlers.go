package main

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/berth-runtime/berth/cri"
	"github.com/sirupsen/logrus"
)

// featuresTime bounds what a runtime may take to say what it can do.
const featuresTime = 5 * time.Second

// foreignHandlers are the other runtimes that are configured, with what they say of themselves.
func foreignHandlers(ctx context.Context, cfg config, log logrus.FieldLogger) cri.Handlers {
	var out cri.Handlers
	for _, name := range slices.Sorted(maps.Keys(cfg.Runtimes)) {
		within, cancel := context.WithTimeout(ctx, featuresTime)
		features, err := cfg.Runtimes[name].Features(within)
		cancel()
		if err != nil { // those of before 2023 have no such command
			log.WithFields(logrus.Fields{"op": "runtime " + name, "error": err}).Info("runtime does not tell its features: it is taken to have none")
		}
		out = append(out, cri.Handler{Name: name, RecursiveReadOnly: features.RecursiveReadOnly})
	}
	return out
}
