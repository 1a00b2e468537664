package stream

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/websocket"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// tunnelSession connects to a URL as crictl's port-forward does with --transport websocket.
func tunnelSession(t *testing.T, url string) *websocket.Conn {
	t.Helper()
	ws := webSession(t, url, "SPDY/3.1+portforward.k8s.io")
	ws.PayloadType = websocket.BinaryFrame
	if p := ws.Config().Protocol; len(p) != 1 || p[0] != "SPDY/3.1+portforward.k8s.io" {
		t.Fatalf("the server speaks %q", p)
	}
	return ws
}

func TestPortForwardInTunnel(t *testing.T) {
	s := serving(t, DefaultConfig(), &fakeRuntime{})
	conn, err := spdy.NewClientConnection(tunnelSession(t, must(t)(s.PortForward("p1", "u1", nil))))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	forwards(t, conn)
	// More than any buffer on the way, there and back.
	header := http.Header{"Port": {"82"}, "Requestid": {"9"}, "Streamtype": {"error"}}
	if _, err := conn.CreateStream(header); err != nil {
		t.Fatal(err)
	}
	header.Set("Streamtype", "data")
	data, err := conn.CreateStream(header)
	if err != nil {
		t.Fatal(err)
	}
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() { // ends with the stream
		_, _ = data.Write(sent)
		data.Close()
	}()
	got, err := io.ReadAll(data)
	if err != nil || !bytes.Equal(bytes.TrimPrefix(got, []byte("p1 82: ")), sent) {
		t.Errorf("%d bytes came back of %d: %v", len(got), len(sent), err)
	}
}

// TestTunnelEnds: the session ends with its client, and with what isn't SPDY.
func TestTunnelEnds(t *testing.T) {
	s := serving(t, DefaultConfig(), &fakeRuntime{})
	ws := tunnelSession(t, must(t)(s.PortForward("p1", "u1", nil)))
	if _, err := ws.Write(bytes.Repeat([]byte{0xff}, 4096)); err != nil {
		t.Fatal(err)
	}
	if err := ws.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, ws); err != nil {
		t.Errorf("a client that speaks no SPDY is kept: %v", err)
	}
}

// TestForwardRefusesOtherProtocols: none but the tunnel and cri-streaming's own are served.
func TestForwardRefusesOtherProtocols(t *testing.T) {
	s := serving(t, DefaultConfig(), &fakeRuntime{})
	req, err := http.NewRequest(http.MethodGet, must(t)(s.PortForward("p1", "u1", nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
		"Sec-WebSocket-Protocol": "SPDY/3.1+v5.channel.k8s.io", "Origin": "http://localhost",
	} {
		req.Header.Set(key, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode < 400 {
		t.Errorf("status %s", resp.Status)
	}
}
