package stream

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/net/websocket"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/berth-runtime/berth/sandbox"
)

// fakeRuntime repeats what it gets, says which size its terminal has, and ends as
// the command's name says.
type fakeRuntime struct{ panics bool }

func (f *fakeRuntime) Exec(_ context.Context, container string, command []string, s sandbox.Streams) (int32, error) {
	if f.panics {
		panic("the fake was told to")
	}
	if s.Resize != nil && s.TTY {
		size := <-s.Resize
		fmt.Fprintf(s.Stdout, "%dx%d ", size.Width, size.Height)
	}
	fmt.Fprintf(s.Stdout, "%s %s: ", container, command)
	if s.Stdin != nil {
		_, _ = io.Copy(s.Stdout, s.Stdin)
	}
	if s.Stderr != nil {
		_, _ = io.WriteString(s.Stderr, "complaint")
	}
	switch command[0] {
	case "seven":
		return 7, nil
	case "fail":
		return 0, errors.Join(errors.New("no such container"), errors.New("nor its name"))
	}
	return 0, nil
}

func (f *fakeRuntime) Attach(ctx context.Context, container string, s sandbox.Streams) error {
	_, err := f.Exec(ctx, container, []string{"attach"}, s)
	return err
}

// PortForward repeats, but for port 1, where nobody is.
func (f *fakeRuntime) PortForward(_ context.Context, pod string, port int32, client io.ReadWriteCloser) error {
	if port == 1 {
		return errors.Join(errors.New("connection refused"), errors.New("there too"))
	}
	fmt.Fprintf(client, "%s %d: ", pod, port)
	_, _ = io.Copy(client, client)
	return nil
}

// serving is a server that runs until the test's end.
func serving(t *testing.T, cfg Config, r Runtime) *Server {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	s, err := Listen(cfg, r, log)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	t.Cleanup(func() {
		for range 2 {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s
}

// must returns the URL that a call gave.
func must(t *testing.T) func(url string, err error) string {
	return func(url string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return url
	}
}

// spdySession connects to a URL as kubelet does.
func spdySession(url string, config *tls.Config, protocol string) (httpstream.Connection, error) {
	r, err := spdy.NewRoundTripper(config)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(http.MethodPost, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set(httpstream.HeaderProtocolVersion, protocol)
	resp, err := r.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	return r.NewConnection(resp)
}

// open opens streams by their types.
func open(t *testing.T, conn httpstream.Connection, kinds ...string) map[string]httpstream.Stream {
	t.Helper()
	out := map[string]httpstream.Stream{}
	for _, kind := range kinds {
		s, err := conn.CreateStream(http.Header{"Streamtype": {kind}})
		if err != nil {
			t.Fatal(err)
		}
		out[kind] = s
	}
	return out
}

func all(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestExecOverSPDY(t *testing.T) {
	s := serving(t, DefaultConfig(), &fakeRuntime{})
	for command, wantStatus := range map[string]string{
		"zero": `"Success"`, "seven": `{"reason":"ExitCode","message":"7"}`, "fail": "no such container",
	} {
		url := must(t)(s.Exec("c1", []string{command}, Wanted{Stdin: true, Stdout: true, Stderr: true}))
		conn, err := spdySession(url, nil, "v4.channel.k8s.io")
		if err != nil {
			t.Fatal(err)
		}
		streams := open(t, conn, "error", "stdin", "stdout", "stderr")
		_, _ = io.WriteString(streams["stdin"], "input")
		streams["stdin"].Close()
		if got := all(t, streams["stdout"]); got != fmt.Sprintf("c1 [%s]: input", command) {
			t.Errorf("%s: stdout %q", command, got)
		}
		if got := all(t, streams["stderr"]); got != "complaint" {
			t.Errorf("%s: stderr %q", command, got)
		}
		if got := all(t, streams["error"]); !strings.Contains(got, wantStatus) {
			t.Errorf("%s: status %q", command, got)
		}
		conn.Close()
	}
}

func TestAttachTerminalOverSPDY(t *testing.T) {
	s := serving(t, DefaultConfig(), &fakeRuntime{})
	conn, err := spdySession(must(t)(s.Attach("c1", Wanted{Stdout: true, TTY: true})), nil, "v4.channel.k8s.io")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	streams := open(t, conn, "error", "stdout", "resize")
	_, _ = io.WriteString(streams["resize"], `{"Width":80,"Height":24}`)
	if got := all(t, streams["stdout"]); got != "80x24 c1 [attach]: " {
		t.Errorf("stdout %q", got)
	}
}

// TestPortForwardOverSPDY has one connection fail among others of a session.
func TestPortForwardOverSPDY(t *testing.T) {
	s := serving(t, DefaultConfig(), &fakeRuntime{})
	conn, err := spdySession(must(t)(s.PortForward("p1", "u1", nil)), nil, "portforward.k8s.io")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	forwards(t, conn)
}

// forwards holds a session of forwarded ports against what the fake does.
func forwards(t *testing.T, conn httpstream.Connection) {
	t.Helper()
	for i, c := range []struct{ port, want, wantError string }{
		{"80", "p1 80: hello", ""}, {"1", "", "to pod p1, uid u1: connection refused; there too"}, {"81", "p1 81: hello", ""},
	} {
		header := http.Header{"Port": {c.port}, "Requestid": {fmt.Sprint(i)}, "Streamtype": {"error"}}
		errs, err := conn.CreateStream(header)
		if err != nil {
			t.Fatal(err)
		}
		header.Set("Streamtype", "data")
		data, err := conn.CreateStream(header)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(data, "hello")
		data.Close()
		got, _ := io.ReadAll(data) // of the one that fails: reset
		gotError, _ := io.ReadAll(errs)
		if string(got) != c.want || !strings.Contains(string(gotError), c.wantError) || c.wantError == "" && len(gotError) > 0 {
			t.Errorf("port %s: %q, error %q", c.port, got, gotError)
		}
	}
}

// webSession connects to a URL as crictl and browsers do.
func webSession(t *testing.T, url, protocol string) *websocket.Conn {
	t.Helper()
	config, err := websocket.NewConfig(strings.Replace(url, "http", "ws", 1), "http://localhost")
	if err != nil {
		t.Fatal(err)
	}
	config.Protocol = []string{protocol}
	ws, err := websocket.DialConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	if err := ws.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return ws
}

func send(t *testing.T, ws *websocket.Conn, channel byte, text string) {
	t.Helper()
	if err := websocket.Message.Send(ws, append([]byte{channel}, text...)); err != nil {
		t.Fatal(err)
	}
}

// received is what came by channel until the connection's end.
func received(ws *websocket.Conn) map[byte]string {
	out := map[byte]string{}
	for {
		var m []byte
		if err := websocket.Message.Receive(ws, &m); err != nil {
			return out
		}
		if len(m) > 0 {
			out[m[0]] += string(m[1:])
		}
	}
}

func TestExecOverWebSocketV5(t *testing.T) {
	s := serving(t, DefaultConfig(), &fakeRuntime{})
	for command, want := range map[string]status{
		"zero": {Status: "Success"},
		"seven": {Status: "Failure", Reason: "NonZeroExitCode", Message: "command terminated with non-zero exit code: exit code 7",
			Details: &details{Causes: []cause{{Type: "ExitCode", Message: "7"}}}},
		"fail": {Status: "Failure", Reason: "InternalError", Message: "no such container; nor its name", Code: 500},
	} {
		ws := webSession(t, must(t)(s.Exec("c1", []string{command}, Wanted{Stdin: true, Stdout: true})), "v5.channel.k8s.io")
		send(t, ws, 0, "input")
		send(t, ws, 255, "\x00") // standard input ends, the session does not
		got := received(ws)
		if got[1] != fmt.Sprintf("c1 [%s]: input", command) || got[2] != "" {
			t.Errorf("%s: stdout %q, stderr %q", command, got[1], got[2])
		}
		text, _ := json.Marshal(want)
		if got[3] != string(text) {
			t.Errorf("%s: status %s, want %s", command, got[3], text)
		}
	}
}

func TestTerminalOverWebSocketV5(t *testing.T) {
	s := serving(t, DefaultConfig(), &fakeRuntime{})
	ws := webSession(t, must(t)(s.Attach("c1", Wanted{Stdout: true, TTY: true})), "v5.channel.k8s.io")
	send(t, ws, 4, `{"Width":80,"Height":24}`)
	send(t, ws, 4, `{"Width":81,"Height":24}`) // comes too late, and holds nothing up
	if got := received(ws); got[1] != "80x24 c1 [attach]: " {
		t.Errorf("stdout %q", got[1])
	}
}

func TestExecOverWebSocketV4(t *testing.T) {
	s := serving(t, DefaultConfig(), &fakeRuntime{})
	ws := webSession(t, must(t)(s.Exec("c1", []string{"zero"}, Wanted{Stdout: true, Stderr: true})), "v4.channel.k8s.io")
	if got := received(ws); got[1] != "c1 [zero]: " || got[2] != "complaint" || !strings.Contains(got[3], "Success") {
		t.Errorf("got %q", got)
	}
}

func TestURLsServeOnce(t *testing.T) {
	s := serving(t, DefaultConfig(), &fakeRuntime{})
	url := must(t)(s.Exec("c1", []string{"zero"}, Wanted{Stdout: true}))
	received(webSession(t, url, "v5.channel.k8s.io"))
	other := must(t)(s.Attach("c1", Wanted{Stdout: true}))
	for _, c := range []struct{ name, url string }{
		{"used", url},
		{"another kind's", strings.Replace(other, "/attach/", "/exec/", 1)},
		{"used up by that", other},
		{"no token", "http://" + s.listener.Addr().String() + "/exec/"},
		{"guessed", "http://" + s.listener.Addr().String() + "/exec/0123456789"},
	} {
		if code := statusCode(t, c.url); code != http.StatusNotFound {
			t.Errorf("%s: status %d", c.name, code)
		}
	}
}

// TestURLsServeInTime has a client come when its time is over, though nobody made room yet.
func TestURLsServeInTime(t *testing.T) {
	s := serving(t, DefaultConfig(), &fakeRuntime{})
	url := must(t)(s.Exec("c1", []string{"zero"}, Wanted{Stdout: true}))
	s.tokens.now = func() time.Time { return time.Now().Add(tokenTime + time.Second) }
	if code := statusCode(t, url); code != http.StatusNotFound {
		t.Errorf("status %d", code)
	}
}

func statusCode(t *testing.T, url string) int {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestPanicEndsItsSession has a session's fault end that one, and no other.
func TestPanicEndsItsSession(t *testing.T) {
	r := &fakeRuntime{panics: true}
	s := serving(t, DefaultConfig(), r)
	received(webSession(t, must(t)(s.Exec("c1", []string{"zero"}, Wanted{Stdout: true})), "v5.channel.k8s.io"))
	r.panics = false
	if got := received(webSession(t, must(t)(s.Exec("c1", []string{"zero"}, Wanted{Stdout: true})), "v5.channel.k8s.io")); got[1] == "" {
		t.Error("nothing is served any more")
	}
}

func TestClientCertificates(t *testing.T) {
	a := newAuthority(t, "ca")
	cfg := DefaultConfig()
	cfg.Address = "localhost:0"
	cfg.TLSCert, cfg.TLSKey = a.issue("server")
	cfg.ClientCA = a.file()
	s := serving(t, cfg, &fakeRuntime{})
	try := func(config *tls.Config) error {
		url := must(t)(s.Exec("c1", []string{"zero"}, Wanted{Stdout: true}))
		if !strings.HasPrefix(url, "https://localhost:") {
			t.Errorf("URL %s", url)
		}
		conn, err := spdySession(url, config, "v4.channel.k8s.io")
		if err == nil {
			streams := open(t, conn, "error", "stdout")
			if got := all(t, streams["stdout"]); got != "c1 [zero]: " {
				err = fmt.Errorf("stdout %q", got)
			}
			conn.Close()
		}
		return err
	}
	root := a.pool()
	load := func(a *authority, name string) *tls.Config {
		pair, err := tls.LoadX509KeyPair(a.issue(name))
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Config{RootCAs: root, Certificates: []tls.Certificate{pair}}
	}
	if err := try(load(a, "kubelet")); err != nil {
		t.Errorf("kubelet: %v", err)
	}
	if err := try(&tls.Config{RootCAs: a.pool()}); err == nil {
		t.Error("a client without a certificate was served")
	}
	if err := try(load(newAuthority(t, "other"), "stranger")); err == nil {
		t.Error("a client of another authority was served")
	}
}
