package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
)

// stopTime bounds a graceful stop: requests that run longer are broken off. Their
// work isn't lost, the next daemon finishes or undoes it.
const stopTime = 10 * time.Second

func newServeCommand(flags *configFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the node runtime",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := flags.load()
			if err != nil {
				return err
			}
			log := newLogger(cfg.Log, cmd.ErrOrStderr())
			catchLibraries(log)
			err = serve(cmd.Context(), cfg, log)
			if os.Geteuid() != 0 && errors.Is(err, fs.ErrPermission) {
				return fmt.Errorf("%w (berth serve needs root)", err)
			}
			return err
		},
	}
}

// serve runs the daemon until ctx ends:
//
//	lock root and state ── listen ── open the rooms ── open the doors ── serve, tell systemd
//	                                                                        │ signal
//	unlock ◀── remove the socket ◀── close the rooms ◀── close the doors, which ends the requests
//
// The socket is there before the rooms are open, so that a client which comes early
// waits instead of being refused. Containers run on after the end.
func serve(ctx context.Context, cfg config, log *logrus.Logger) error {
	start := time.Now()
	release, err := takeLocks(cfg.Root, cfg.State)
	if err != nil {
		return err
	}
	defer release()
	listener, err := listen(cfg.socket())
	if err != nil {
		return err
	}
	defer os.Remove(cfg.socket())
	defer listener.Close()

	rooms, err := openRooms(ctx, cfg, log)
	if err != nil {
		return err
	}
	doors, err := openDoors(ctx, cfg, rooms, log)
	if err != nil {
		rooms.close(ctx, log)
		return err
	}
	failed := doors.serve(listener)
	log.WithFields(logrus.Fields{"op": "serve unix://" + cfg.socket(), "took": time.Since(start)}).Info("serving")
	notify(log, daemon.SdNotifyReady)

	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("serve: %w", err)
	}
	notify(log, daemon.SdNotifyStopping)
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	doors.close(stopping, log)
	rooms.close(stopping, log)
	log.Info("stopped")
	return err
}

// notify tells systemd, when it is the one who started us (sd_notify(3)).
func notify(log logrus.FieldLogger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.WithError(err).Warn("systemd notification")
	}
}
