package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	stdlog "log"
	"os"
	"os/exec"
	"testing"

	"github.com/go-logr/logr"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc/grpclog"
	"k8s.io/klog/v2"
)

// event reads the one event that is in a log in JSON, and empties it; nil when there is none.
func event(t *testing.T, out *bytes.Buffer) map[string]any {
	t.Helper()
	defer out.Reset()
	if out.Len() == 0 {
		return nil
	}
	var e map[string]any
	if err := json.Unmarshal(out.Bytes(), &e); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	return e
}

// alone has a test run in a process of its own, and says whether this is that one: loggers of a whole process can't be set while other tests'
// libraries are at work.
func alone(t *testing.T) bool {
	t.Helper()
	const mark = "BERTH_TEST_ALONE"
	if os.Getenv(mark) == t.Name() {
		return true
	}
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), mark+"="+t.Name())
	if out, err := c.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("in a process of its own: %v\n%s", err, out)
	}
	return false
}

// TestLibrariesLogAsTheDaemonDoes: what klog and gRPC say is an event like any other, and what a client did is none of the
// daemon's errors.
func TestLibrariesLogAsTheDaemonDoes(t *testing.T) {
	if !alone(t) {
		return
	}
	var out bytes.Buffer
	log := newLogger(logConfig{Level: "debug", Format: formatJSON}, &out)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	os.Stderr = write
	catchLibraries(log)

	klog.Background().Error(errors.New("no such file"), "Unhandled Error")
	if e := event(t, &out); e["level"] != "debug" || e["op"] != "stream" || e["error"] != "no such file" {
		t.Errorf("a client's error: %v", e)
	}
	klog.ErrorS(nil, "odd byte", "channel", 7)
	if e := event(t, &out); e["level"] != "debug" || e["error"] != "odd byte channel=7" {
		t.Errorf("an error without one: %v", e)
	}
	klog.Background().Error(errors.New("nil map"), "Observed a panic")
	if e := event(t, &out); e["level"] != "error" || e["error"] != "nil map" {
		t.Errorf("a panic: %v", e)
	}
	klog.Warningf("stream rejected: %v", 5)
	if e := event(t, &out); e != nil {
		t.Errorf("a library's chatter at level debug: %v", e)
	}
	grpclog.Error("lost ", "a message")
	if e := event(t, &out); e["level"] != "warning" || e["op"] != "grpc" || e["error"] != "lost a message" {
		t.Errorf("gRPC's: %v", e)
	}
	stdlog.Printf("netlink: %s", "odd")
	if e := event(t, &out); e["level"] != "warning" || e["op"] != "library" || e["error"] != "netlink: odd" {
		t.Errorf("Go's: %v", e)
	}
	logrus.Error("ttrpc: odd")
	if e := event(t, &out); e["level"] != "error" || e["msg"] != "ttrpc: odd" {
		t.Errorf("logrus': %v", e)
	}
	grpclog.Info("connected")
	if e := event(t, &out); e != nil {
		t.Errorf("gRPC's chatter: %v", e)
	}
	write.Close()
	if raw, err := io.ReadAll(read); err != nil || len(raw) > 0 {
		t.Errorf("on standard error: %q, %v", raw, err)
	}
}

func TestStreamSinkTraces(t *testing.T) {
	var out bytes.Buffer
	logger := logr.New(streamSink{newLogger(logConfig{Level: "trace", Format: formatJSON}, &out)})
	logger.WithName("x").WithValues("a", 1).V(4).Info("half closed", "channel", 2)
	if e := event(t, &out); e["level"] != "trace" || e["op"] != "stream: half closed channel=2" {
		t.Errorf("%v", e)
	}
}

func TestJoinedErrorsAreLoggedOnOneLine(t *testing.T) {
	var out bytes.Buffer
	log := newLogger(logConfig{Level: "debug", Format: formatJSON}, &out)
	log.WithError(errors.Join(errors.New("a"), errors.New("b"))).Warn("w")
	if e := event(t, &out); e["error"] != "a; b" {
		t.Errorf("%v", e)
	}
	log.WithFields(logrus.Fields{"error": "panic\nstack"}).Warn("w")
	if e := event(t, &out); e["error"] != "panic\nstack" {
		t.Errorf("a stack: %v", e)
	}
	log.WithError(nil).Warn("w")
	if e := event(t, &out); e["msg"] != "w" {
		t.Errorf("no error: %v", e)
	}
}
