package main

import (
	"context"
	"fmt"
	"net"
	"os"

	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/cri"
	"github.com/berth-runtime/berth/cri/stream"
	"github.com/berth-runtime/berth/cri/trace"
)

// doors are what clients come in by: CRI, the streams that it promises them, and what cAdvisor asks.
type doors struct {
	tracer  *trace.Tracer // nil: nobody is to get traces
	streams *stream.Server
	server  *cri.Server
	watch   *cri.Server // nil: cAdvisor has no socket

	watchPath     string
	watchListener net.Listener
}

// openDoors makes them; none is served before serve. After an error nothing is left open.
func openDoors(ctx context.Context, cfg config, rooms *rooms, log *logrus.Logger) (_ *doors, err error) {
	d := &doors{}
	defer func() {
		if err != nil {
			d.close(ctx, log)
		}
	}()
	if d.tracer, err = trace.Open(ctx, cfg.Tracing, version, log); err != nil {
		return nil, err
	}
	if d.streams, err = stream.Listen(cfg.Streaming, rooms.pods, log); err != nil {
		return nil, err
	}
	if d.watchPath = cfg.Cadvisor.Socket; d.watchPath != "" {
		if d.watchListener, err = listen(d.watchPath); err != nil {
			return nil, fmt.Errorf("cadvisor.socket: %w", err)
		}
		d.watch = cri.NewCadvisorServer(rooms.pods, log)
	}
	d.server = cri.NewServer(rooms.door(ctx, cfg, d.tracer, log), rooms.parts(d.streams, log))
	return d, nil
}

// serve answers, CRI on the listener, until close; what ends before that is sent.
func (d *doors) serve(listener net.Listener) <-chan error {
	failed := make(chan error, 3)
	go func() { failed <- d.server.Serve(listener) }() // ends with server.Stop
	go func() { failed <- d.streams.Serve() }()        // ends with streams.Close
	if d.watch != nil {
		go func() { failed <- d.watch.Serve(d.watchListener) }() // ends with watch.Stop
	}
	return failed
}

// close ends the requests, which have until ctx ends, and closes what is open.
func (d *doors) close(ctx context.Context, log *logrus.Logger) {
	if d.server != nil {
		d.server.Stop(ctx)
	}
	if d.watch != nil {
		d.watch.Stop(ctx)
		d.watchListener.Close() // if it was never served
		os.Remove(d.watchPath)
	}
	if d.streams != nil {
		if err := d.streams.Close(); err != nil {
			log.WithError(err).Warn("streams did not close")
		}
	}
	if err := d.tracer.Close(ctx); err != nil {
		log.WithError(err).Warn("tracing did not end well")
	}
}
