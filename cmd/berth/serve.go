package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/berth-runtime/berth/cri"
	"github.com/berth-runtime/berth/cri/stream"
	"github.com/berth-runtime/berth/cri/trace"
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
			return serve(cmd.Context(), cfg, newLogger(cfg.Log, cmd.ErrOrStderr()))
		},
	}
}

// serve runs the daemon until ctx ends:
//
//	lock root and state ── listen ── open the rooms ── serve, tell systemd
//	                                                      │ signal
//	unlock ◀── remove the socket ◀── close the rooms ◀── end the requests
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
	streams, err := stream.Listen(cfg.Streaming, rooms.pods, log)
	if err != nil {
		rooms.close(ctx, log)
		return err
	}
	tracer, err := trace.Open(ctx, cfg.Tracing, version, log)
	if err != nil {
		rooms.close(ctx, log)
		return errors.Join(err, streams.Close())
	}
	door := rooms.door(ctx, cfg, log)
	door.API, door.Tracer = cfg.API, tracer
	server := cri.NewServer(door, rooms.parts(streams, log))
	watch, watchListener, err := listenCadvisor(cfg.Cadvisor.Socket, rooms, log)
	if err != nil {
		rooms.close(ctx, log)
		return errors.Join(err, streams.Close())
	}
	failed := make(chan error, 3)
	go func() { failed <- server.Serve(listener) }() // ends with server.Stop
	go func() { failed <- streams.Serve() }()        // ends with streams.Close
	if watch != nil {
		defer os.Remove(cfg.Cadvisor.Socket)
		go func() { failed <- watch.Serve(watchListener) }() // ends with watch.Stop
	}
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
	server.Stop(stopping)
	if watch != nil {
		watch.Stop(stopping)
	}
	if err := streams.Close(); err != nil {
		log.WithError(err).Warn("streams did not close")
	}
	rooms.close(stopping, log)
	if err := tracer.Close(stopping); err != nil {
		log.WithError(err).Warn("tracing did not end well")
	}
	log.Info("stopped")
	return err
}

// listenCadvisor opens the socket for cAdvisor and makes its server; both are nil without a path.
func listenCadvisor(path string, rooms *rooms, log *logrus.Logger) (*cri.Server, net.Listener, error) {
	if path == "" {
		return nil, nil, nil
	}
	l, err := listen(path)
	if err != nil {
		return nil, nil, fmt.Errorf("cadvisor.socket: %w", err)
	}
	return cri.NewCadvisorServer(rooms.pods, log), l, nil
}

// notify tells systemd, when it is the one who started us (sd_notify(3)).
func notify(log logrus.FieldLogger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.WithError(err).Warn("systemd notification")
	}
}
