package blackbox

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-runtime/berth/test/harness"
)

// line is a connection through a forwarded port, whose other end answers lines.
type line struct {
	conn *net.TCPConn
	in   *bufio.Reader
}

func callUp(t *testing.T, address string) line {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, 10*time.Second)
	check(t, err)
	t.Cleanup(func() { conn.Close() })
	check(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	return line{conn.(*net.TCPConn), bufio.NewReader(conn)}
}

// says sends a line and returns the answer; "" when there is none.
func (l line) says(text string) string {
	if _, err := fmt.Fprintln(l.conn, text); err != nil {
		return ""
	}
	answer, _ := l.in.ReadString('\n') // an end is an answer too
	return strings.TrimSpace(answer)
}

// TestRootForwardedConnectionsBreakAlone: in a session that forwards a port, a connection that the pod's side ends, or the client
// resets, takes no other with it; to addresses of both families, in pods' networks and on the host's.
func TestRootForwardedConnectionsBreakAlone(t *testing.T) {
	d := start(t)
	for _, c := range []struct {
		name, address string
		host          bool
	}{{"pod-v4", "127.0.0.1", false}, {"pod-v6", "::1", false}, {"host-v4", "127.0.0.1", true}, {"host-v6", "::1", true}} {
		t.Run(c.name, func(t *testing.T) {
			config, port := d.PodConfig(c.name), harness.FreePort(t)
			if c.host {
				harness.OnHostNetwork(config)
			}
			pod := d.RunPod(config)
			main := harness.ContainerConfig("answers", fmt.Sprintf(
				`exec tcpsvd -c 100 %s %d sh -c 'while read x; do [ "$x" = die ] && exit; echo "got $x"; done'`, c.address, port))
			run := pod.Run(main)
			d.Eventually("the server to listen", func() bool { return strings.Contains(run.Exec("netstat -ltn"), fmt.Sprint(port)) })
			local := forward(t, d, pod.ID, port)
			long := callUp(t, local)
			want(t, "answer", long.says("first"), "got first")
			for i := range 5 {
				want(t, "answer of one that dies", callUp(t, local).says("die"), "")
				reset := callUp(t, local)
				want(t, "answer before the reset", reset.says("x"), "got x")
				check(t, reset.conn.SetLinger(0))
				check(t, reset.conn.Close())
				want(t, "answer of the long connection", long.says(fmt.Sprint(i)), fmt.Sprint("got ", i))
			}
			var all sync.WaitGroup
			for i := range 20 {
				one := callUp(t, local)
				all.Go(func() {
					if got := one.says(fmt.Sprint(i)); got != fmt.Sprint("got ", i) {
						t.Errorf("one of many at once got %q", got)
					}
				})
			}
			all.Wait()
			want(t, "answer at last", long.says("last"), "got last")
		})
	}
}
