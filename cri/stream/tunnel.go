package stream

import (
	"bufio"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
	"golang.org/x/net/websocket"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// tunnelProtocol is what client-go asks for when it forwards ports over WebSocket
// (KEP-4006): the messages carry the bytes of a SPDY connection. The API server and kubelet
// translate it, crictl comes with it.
const tunnelProtocol = portforward.WebsocketsSPDYTunnelingPortForwardV1

// isTunnel says whether a client wants SPDY inside a WebSocket.
func isTunnel(r *http.Request) bool {
	return wsstream.IsWebSocketRequest(r) && slices.Contains(offered(r), tunnelProtocol)
}

// offered are the protocols that a client of a WebSocket speaks (RFC 6455, section 11.3.4: one list, in
// one header or more).
func offered(r *http.Request) []string {
	list := strings.Split(strings.Join(r.Header.Values("Sec-WebSocket-Protocol"), ","), ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}

// serveTunnel has session find the SPDY connection that is inside a WebSocket, as if
// the client had upgraded to SPDY itself.
func (s *Server) serveTunnel(w http.ResponseWriter, r *http.Request, session http.HandlerFunc) {
	server := websocket.Server{
		Handshake: func(c *websocket.Config, _ *http.Request) error {
			c.Protocol = []string{tunnelProtocol}
			return nil
		},
		Handler: func(ws *websocket.Conn) {
			ws.PayloadType = websocket.BinaryFrame
			inner := r.Clone(r.Context())
			inner.Header = http.Header{}
			inner.Header.Set(httpstream.HeaderConnection, httpstream.HeaderUpgrade)
			inner.Header.Set(httpstream.HeaderUpgrade, spdy.HeaderSpdy31)
			inner.Header.Set(httpstream.HeaderProtocolVersion, portforward.ProtocolV1Name)
			answer := &tunnelWriter{conn: ws, header: http.Header{}}
			session(answer, inner)
			if !answer.taken {
				s.log.WithFields(logrus.Fields{"op": "open WebSocket", "error": answer.complaint}).Debug("client not connected")
			}
		},
	}
	server.ServeHTTP(w, r)
}

// tunnelWriter answers a request that no client sent: an upgrade gets the WebSocket,
// whatever else is written has no reader.
type tunnelWriter struct {
	conn      net.Conn
	header    http.Header
	taken     bool
	complaint string
}

// Header is of http.ResponseWriter.
func (t *tunnelWriter) Header() http.Header { return t.header }

// WriteHeader is of http.ResponseWriter.
func (t *tunnelWriter) WriteHeader(int) {}

// Write is of http.ResponseWriter.
func (t *tunnelWriter) Write(text []byte) (int, error) {
	t.complaint += string(text)
	return len(text), nil
}

// Hijack is of http.Hijacker.
func (t *tunnelWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	t.taken = true
	return t.conn, bufio.NewReadWriter(bufio.NewReader(t.conn), bufio.NewWriter(t.conn)), nil
}
