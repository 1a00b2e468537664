package main

import (
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"strings"

	"github.com/go-logr/logr"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc/grpclog"
	"k8s.io/klog/v2"
)

// catchLibraries has what libraries say for themselves written to log, in its format: Kubernetes' and gRPC, and those that use Go's
// own logger or logrus'. Those are each one for the whole process, and write to standard error without this; it is called once,
// before any of them is used.
func catchLibraries(log *logrus.Logger) {
	klog.SetLogger(logr.New(streamSink{log}))
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, grpcLog{log}))
	stdlog.SetFlags(0)
	stdlog.SetOutput(goLog{log})
	others := logrus.StandardLogger()
	others.SetOutput(log.Out)
	others.SetFormatter(log.Formatter)
	others.SetLevel(log.GetLevel())
}

// goLog is where Go's own logger writes.
type goLog struct{ log *logrus.Logger }

func (g goLog) Write(text []byte) (int, error) {
	g.log.WithFields(logrus.Fields{"op": "library", "error": strings.TrimSpace(string(text))}).Warn("library complains")
	return len(text), nil
}

// streamSink is what the libraries behind exec, attach and port-forward log to (logr.LogSink). Nearly all that they call
// an error is what a client did or asked for, and the client is told it: it is nothing for who looks after the node.
type streamSink struct{ log *logrus.Logger }

// Init is of logr.LogSink.
func (s streamSink) Init(logr.RuntimeInfo) {}

// Enabled is of logr.LogSink.
func (s streamSink) Enabled(int) bool { return s.log.IsLevelEnabled(logrus.TraceLevel) }

// Info is of logr.LogSink.
func (s streamSink) Info(_ int, message string, pairs ...any) {
	s.log.WithField("op", strings.TrimSpace("stream: "+message+" "+spell(pairs))).Trace("streaming")
}

// Error is of logr.LogSink. "Observed a panic" is k8s.io/streaming/pkg/runtime's word for one that it recovered from.
func (s streamSink) Error(err error, message string, pairs ...any) {
	if err == nil {
		err = errors.New(strings.TrimSpace(message + " " + spell(pairs)))
	}
	event := s.log.WithFields(logrus.Fields{"op": "stream", "error": err})
	if message == "Observed a panic" {
		event.Error("session panicked")
		return
	}
	event.Debug("client's stream failed")
}

// WithValues and WithName are of logr.LogSink.
func (s streamSink) WithValues(...any) logr.LogSink { return s }
func (s streamSink) WithName(string) logr.LogSink   { return s }

// spell writes logr's pairs of key and value.
func spell(pairs []any) string {
	var out []string
	for i := 0; i+1 < len(pairs); i += 2 {
		out = append(out, fmt.Sprintf("%v=%v", pairs[i], pairs[i+1]))
	}
	return strings.Join(out, " ")
}

// grpcLog is where gRPC writes what it takes for an error of its own: "2006/01/02 15:04:05 ERROR: …", a call each.
type grpcLog struct{ log *logrus.Logger }

func (g grpcLog) Write(text []byte) (int, error) {
	_, message, found := strings.Cut(string(text), "ERROR: ")
	if !found {
		message = string(text)
	}
	g.log.WithFields(logrus.Fields{"op": "grpc", "error": strings.TrimSpace(message)}).Warn("gRPC complains")
	return len(text), nil
}

// oneLine writes errors that were joined, which have a line each, on one (logrus.Hook).
type oneLine struct{}

// Levels is of logrus.Hook.
func (oneLine) Levels() []logrus.Level { return logrus.AllLevels }

// Fire is of logrus.Hook. A text is left as it is: that of a panic is a stack.
func (oneLine) Fire(e *logrus.Entry) error {
	if err, is := e.Data[logrus.ErrorKey].(error); is && err != nil {
		if text := err.Error(); strings.Contains(text, "\n") {
			e.Data[logrus.ErrorKey] = strings.ReplaceAll(text, "\n", "; ")
		}
	}
	return nil
}
