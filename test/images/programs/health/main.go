// Command health serves gRPC's health protocol on PORT (5000 when unset), for probes: it is well unless there is a file
// /tmp/sick. It ends on SIGTERM.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"google.golang.org/grpc"
	health "google.golang.org/grpc/health/grpc_health_v1"
)

type server struct {
	health.UnimplementedHealthServer
}

func (server) Check(context.Context, *health.HealthCheckRequest) (*health.HealthCheckResponse, error) {
	if _, err := os.Stat("/tmp/sick"); err == nil {
		return &health.HealthCheckResponse{Status: health.HealthCheckResponse_NOT_SERVING}, nil
	}
	return &health.HealthCheckResponse{Status: health.HealthCheckResponse_SERVING}, nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "health:", err)
		os.Exit(1)
	}
}

func run() error {
	port := os.Getenv("PORT")
	if port == "" {
		port = "5000"
	}
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	s := grpc.NewServer()
	health.RegisterHealthServer(s, server{})
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, s.Stop)
	return s.Serve(listener)
}
