package stream

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"github.com/berth-runtime/berth/sandbox"
)

// idleTime is far more than what a busy machine takes to pass a byte on, and the test can wait for it.
const idleTime = 2 * time.Second

// TestIdleSessionsEnd: a session in which nothing is said ends after its time, over each transport, and its process sees the end
// of its input; one in which the client goes on to speak lasts.
func TestIdleSessionsEnd(t *testing.T) {
	cfg := DefaultConfig()
	cfg.IdleTimeout = Duration(idleTime)
	over := make(chan struct{}, 4)
	s := serving(t, cfg, &endTelling{over: over})
	wanted := Wanted{Stdin: true, Stdout: true}
	web := func(protocol string) func(*testing.T) (io.Writer, io.Reader) {
		return func(t *testing.T) (io.Writer, io.Reader) {
			ws := webSession(t, must(t)(s.Exec("c1", []string{"zero"}, wanted)), protocol)
			ws.PayloadType = websocket.BinaryFrame
			return stdinOf{ws}, ws
		}
	}
	for name, begin := range map[string]func(*testing.T) (io.Writer, io.Reader){
		"v4 over WebSocket": web("v4.channel.k8s.io"), "v5 over WebSocket": web("v5.channel.k8s.io"),
		"exec over SPDY": func(t *testing.T) (io.Writer, io.Reader) {
			conn, err := spdySession(must(t)(s.Exec("c1", []string{"zero"}, wanted)), nil, "v4.channel.k8s.io")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			streams := open(t, conn, "error", "stdin", "stdout")
			return streams["stdin"], streams["stdout"]
		},
		"port-forward over SPDY": func(t *testing.T) (io.Writer, io.Reader) {
			conn, err := spdySession(must(t)(s.PortForward("p1", "u1", nil)), nil, "portforward.k8s.io")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			header := http.Header{"Port": {"80"}, "Requestid": {"0"}, "Streamtype": {"error"}}
			if _, err := conn.CreateStream(header); err != nil {
				t.Fatal(err)
			}
			header.Set("Streamtype", "data")
			data, err := conn.CreateStream(header)
			if err != nil {
				t.Fatal(err)
			}
			return data, data
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in, out := begin(t)
			for range 12 { // longer than an idle one lasts
				if _, err := io.WriteString(in, "x"); err != nil {
					t.Fatalf("the session ended while the client spoke: %v", err)
				}
				time.Sleep(idleTime / 8)
			}
			quiet := time.Now()
			ended := make(chan struct{})
			go func() { // ends with the connection, which the clean-up closes at last
				_, _ = io.Copy(io.Discard, out)
				close(ended)
			}()
			select {
			case <-ended:
			case <-time.After(20 * idleTime):
				t.Fatal("an idle session does not end")
			}
			if took := time.Since(quiet); took < idleTime/2 {
				t.Errorf("it ended after %v", took)
			}
			select {
			case <-over:
			case <-time.After(10 * time.Second):
				t.Error("what ran in it goes on")
			}
		})
	}
}

// endTelling is the fake, and tells when a session has ended.
type endTelling struct {
	fakeRuntime
	over chan struct{}
}

func (r *endTelling) Exec(ctx context.Context, container string, command []string, s sandbox.Streams) (int32, error) {
	defer func() { r.over <- struct{}{} }()
	return r.fakeRuntime.Exec(ctx, container, command, s)
}

func (r *endTelling) PortForward(ctx context.Context, pod string, port int32, client io.ReadWriteCloser) error {
	defer func() { r.over <- struct{}{} }()
	return r.fakeRuntime.PortForward(ctx, pod, port, client)
}

// stdinOf writes to a session's first channel.
type stdinOf struct{ ws *websocket.Conn }

func (s stdinOf) Write(data []byte) (int, error) {
	return len(data), websocket.Message.Send(s.ws, append([]byte{0}, data...))
}
