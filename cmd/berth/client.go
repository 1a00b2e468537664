package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// dial connects to the daemon that serves a socket. The connection is made with
// the first call; that somebody listens is seen before, as gRPC's word for it is no
// help to a person.
func dial(socket string) (*grpc.ClientConn, error) {
	probe, err := net.Dial("unix", socket)
	if err != nil {
		return nil, noAnswer(err)
	}
	probe.Close()
	const largest = 16 << 20 // as the daemon's
	conn, err := grpc.NewClient("unix:"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(largest), grpc.MaxCallSendMsgSize(largest)))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", socket, err)
	}
	return conn, nil
}

// noAnswer says for people why a socket can't be connected to (connect(2)).
func noAnswer(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("the daemon's socket is for root and its group: %w", err)
	}
	return fmt.Errorf("no daemon answers: %w (berth serve runs one; --socket, --state or --config say where)", err)
}

// plain takes gRPC's "rpc error: code = … desc =" off what the daemon said. What ended by a signal (main) is told so.
func plain(op string, err error) error {
	if err == nil {
		return nil
	}
	message := status.Convert(err).Message()
	if message == context.Canceled.Error() {
		message = "interrupted"
	}
	return fmt.Errorf("%s: %s", op, message)
}
