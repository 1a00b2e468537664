package stream

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/sirupsen/logrus"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"github.com/berth-runtime/berth/sandbox"
)

// isV5 says whether a client speaks v5.channel.k8s.io over WebSocket.
func isV5(r *http.Request) bool { return wsstream.IsWebSocketRequestWithStreamCloseProtocol(r) }

// serveV5 is v4 with one message more, by which a client ends a channel: without
// it, standard input has no end but the connection's.
//
//	message: channel (1 byte), data      255, channel: this channel ends
//	0 stdin   1 stdout   2 stderr   3 status, as JSON, at the end   4 terminal sizes, JSON
func (s *Server) serveV5(w http.ResponseWriter, r *http.Request, wanted Wanted, session func(sandbox.Streams) error) {
	channels := []wsstream.ChannelType{
		remotecommand.StreamStdIn:  reads(wanted.Stdin),
		remotecommand.StreamStdOut: writes(wanted.Stdout),
		remotecommand.StreamStdErr: writes(wanted.Stderr),
		remotecommand.StreamErr:    wsstream.WriteChannel,
		remotecommand.StreamResize: wsstream.ReadChannel,
	}
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{
		remotecommand.StreamProtocolV5Name: {Binary: true, Channels: channels},
	})
	conn.SetIdleTimeout(time.Duration(s.cfg.IdleTimeout))
	_, ends, err := conn.Open(w, r)
	if err != nil {
		s.log.WithFields(logrus.Fields{"op": "open WebSocket", "error": err}).Debug("client not connected")
		return
	}
	defer conn.Close()
	_, _ = ends[remotecommand.StreamErr].Write(nil) // tells the client that it is connected
	in := sandbox.Streams{TTY: wanted.TTY}
	if wanted.Stdin {
		in.Stdin = ends[remotecommand.StreamStdIn]
	}
	if wanted.Stdout {
		in.Stdout = ends[remotecommand.StreamStdOut]
	}
	if wanted.Stderr {
		in.Stderr = ends[remotecommand.StreamStdErr]
	}
	over := make(chan struct{})
	defer close(over)
	in.Resize = decodeSizes(ends[remotecommand.StreamResize], over)
	text, err := json.Marshal(statusOf(session(in)))
	if err == nil {
		_, err = ends[remotecommand.StreamErr].Write(text)
	}
	if err != nil {
		s.log.WithFields(logrus.Fields{"op": "write status", "error": err}).Debug("client is gone")
	}
}

func reads(wanted bool) wsstream.ChannelType {
	if wanted {
		return wsstream.ReadChannel
	}
	return wsstream.IgnoreChannel
}

func writes(wanted bool) wsstream.ChannelType {
	if wanted {
		return wsstream.WriteChannel
	}
	return wsstream.IgnoreChannel
}

// decodeSizes reads sizes until the stream's end, and throws away those that nobody
// wants any more: a message that isn't read holds up all others of its connection.
func decodeSizes(from io.Reader, over <-chan struct{}) <-chan sandbox.TerminalSize {
	to := make(chan sandbox.TerminalSize)
	go func() { // ends with the connection
		defer close(to)
		for d := json.NewDecoder(from); ; {
			var size sandbox.TerminalSize
			if err := d.Decode(&size); err != nil {
				_, _ = io.Copy(io.Discard, from)
				return
			}
			select {
			case to <- size:
			case <-over:
			}
		}
	}()
	return to
}

// status is what clients read as a metav1.Status.
type status struct {
	Metadata struct{} `json:"metadata"`
	Status   string   `json:"status"`
	Message  string   `json:"message,omitempty"`
	Reason   string   `json:"reason,omitempty"`
	Details  *details `json:"details,omitempty"`
	Code     int      `json:"code,omitempty"`
}

type details struct {
	Causes []cause `json:"causes,omitempty"`
}

type cause struct {
	Type    string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// statusOf says how a session ended, as cri-streaming does for the older protocols.
func statusOf(err error) status {
	var exit exitError
	switch {
	case err == nil:
		return status{Status: "Success"}
	case errors.As(err, &exit):
		return status{
			Status: "Failure", Reason: remotecommand.NonZeroExitCodeReason,
			Message: fmt.Sprintf("command terminated with non-zero exit code: %v", exit),
			Details: &details{Causes: []cause{{Type: remotecommand.ExitCodeCauseType, Message: strconv.Itoa(exit.ExitStatus())}}},
		}
	default:
		return status{Status: "Failure", Reason: "InternalError", Message: err.Error(), Code: http.StatusInternalServerError}
	}
}
