// Package stream serves what CRI's Exec, Attach and PortForward promise: an HTTP
// connection that becomes many streams. The calls themselves return a URL with a
// token; whoever comes with it gets the session that was asked for, once.
//
//	kubelet ── Exec ─────────────▶ cri ── token ──▶ kept for a minute
//	        ◀─ http://…/exec/TOKEN
//	        ── GET, Upgrade ─────▶ Server ── taken, once ──▶ Runtime.Exec
//
// The protocols (SPDY/3.1 with v1 to v4.channel.k8s.io, WebSocket with v4) are
// k8s.io/cri-streaming's; v5 over WebSocket, which clients like crictl speak and that
// library leaves to kubelet's translation, is in websocket.go, and so is, in tunnel.go,
// SPDY inside a WebSocket, by which they forward ports.
//
// It must not know how a process is run, or where its output comes from.
//
// Invariants:
//
//   - A token is 160 random bits, good for one connection within a minute.
//   - A stream that breaks ends itself. Others on its connection go on, and so does
//     what serves them.
//   - A panic in one session ends that session.
package stream
