package cri

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/berth-runtime/berth/cri/trace"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
)

// interceptor stands around every request: it turns a panic into an error, an
// error into a gRPC status, and logs the request's end.
type interceptor struct {
	log    logrus.FieldLogger
	tracer *trace.Tracer // nil: no request belongs to a trace
}

func (i *interceptor) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	var resp any
	err := i.around(ctx, info.FullMethod, func() (err error) {
		resp, err = handle(ctx, req)
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func (i *interceptor) stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	return i.around(s.Context(), info.FullMethod, func() error { return handle(srv, s) })
}

// around runs one request. The request itself is never logged: it may hold
// secrets. It has one line in the log, see level.
func (i *interceptor) around(ctx context.Context, method string, run func() error) (err error) {
	start, crashed := time.Now(), false
	defer func() {
		if p := recover(); p != nil {
			i.log.WithFields(logrus.Fields{
				"op": method, "error": fmt.Sprintf("%v\n%s", p, debug.Stack()),
			}).Error("request panicked")
			err, crashed = panicked(method), true
		}
		fields := logrus.Fields{"op": method, "took": time.Since(start)}
		if err != nil {
			fields["error"] = err
		}
		if id := i.tracer.ID(ctx); id != "" {
			fields["trace"] = id
		}
		if crashed || level(method, err) == logrus.DebugLevel {
			i.log.WithFields(fields).Debug("request")
		} else {
			i.log.WithFields(fields).Warn("request failed")
		}
	}()
	return toStatus(run())
}
