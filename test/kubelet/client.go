package kubelet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/websocket"
)

// Channels of the protocol v5.channel.k8s.io, the first byte of each message.
const (
	stdin  = 0
	stdout = 1
	stderr = 2
	status = 3
	closed = 255 // and then which channel
)

// Logs is what kubelet has of a container's log.
func (p *Pod) Logs(container, query string) string {
	p.t.Helper()
	text, err := p.node.get("/containerLogs/test/" + p.fullName() + "/" + container + query)
	p.must(err)
	return text
}

// Exec runs a shell script in a container by kubelet's API, which must succeed, and returns what it printed, trimmed.
func (p *Pod) Exec(container, script string) string {
	p.t.Helper()
	out, err := p.TryExec(container, "", "sh", "-c", script)
	if err != nil {
		p.t.Fatalf("exec %q in %s: %v: %s", script, container, err, out)
	}
	return strings.TrimSpace(out)
}

// TryExec is Exec of any command, which gets input unless that is empty, and may fail. A command without input may end
// before its client has said anything, and kubelet closes the connection then.
func (p *Pod) TryExec(container, input string, command ...string) (string, error) {
	query := url.Values{"command": command, "output": {"1"}, "error": {"1"}}
	if input != "" {
		query.Set("input", "1")
	}
	conn, err := p.node.dial("/exec/test/"+p.fullName()+"/"+container+"?"+query.Encode(), "v5.channel.k8s.io")
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if input == "" {
		return receive(conn)
	}
	if err := send(conn, stdin, []byte(input)); err != nil {
		return "", err
	}
	if err := send(conn, closed, []byte{stdin}); err != nil {
		return "", err
	}
	return receive(conn)
}

// dial opens a WebSocket of kubelet's API.
func (n *Node) dial(path, protocol string) (*websocket.Conn, error) {
	config, err := websocket.NewConfig(fmt.Sprintf("wss://127.0.0.1:%d%s", n.port, path), "https://127.0.0.1")
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", path, err)
	}
	config.TlsConfig, config.Protocol = insecure, []string{protocol}
	conn, err := websocket.DialConfig(config)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", path, err)
	}
	return conn, conn.SetDeadline(time.Now().Add(patience))
}

func send(conn *websocket.Conn, channel byte, data []byte) error {
	return websocket.Message.Send(conn, append([]byte{channel}, data...))
}

// receive reads both outputs until the command's end, whose exit code other than 0 is an error.
func receive(conn *websocket.Conn) (string, error) {
	var out strings.Builder
	for {
		var message []byte
		err := websocket.Message.Receive(conn, &message)
		switch {
		case errors.Is(err, io.EOF):
			return out.String(), errors.New("the connection ended before the command's status came")
		case err != nil:
			return out.String(), err
		case len(message) == 0:
		case message[0] == stdout, message[0] == stderr:
			out.Write(message[1:])
		case message[0] == status:
			return out.String(), judge(message[1:])
		}
	}
}

// judge is nil when a status (v1.Status) says Success.
func judge(text []byte) error {
	var s struct{ Status, Message string }
	if err := json.Unmarshal(text, &s); err != nil {
		return fmt.Errorf("read status: %w", err)
	}
	if s.Status != "Success" {
		return errors.New(s.Message)
	}
	return nil
}
