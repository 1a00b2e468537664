package kubelet

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"github.com/berth-runtime/berth/test/harness"
)

// rotates is a log that kubelet rotates while it is written: the new file begins with the line after the old one's last.
func rotates(t *testing.T, n *Node) {
	p := n.Run(t, "rotates", `
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: BUSYBOX, command: [sh, -c, 'i=0; while :; do echo line $i; i=$((i+1)); test $((i % 500)) = 0 && sleep 0.2; done']}
`)
	p.Ready()
	log := filepath.Join(n.Dir, "logs", "test_"+p.fullName()+"_"+p.uid(), "main", "0.log")
	old := ""
	for range 3 {
		// kubelet looks every three seconds: right after a rotation there is time to read.
		eventually(t, "another rotation", func() bool { path := p.rotated(log); return path != old && exists(log) })
		old = p.rotated(log)
		last := harness.ReadLog(t, old)
		var first []harness.Line
		eventually(t, "a line in the new log", func() bool { first = harness.ReadLog(t, log); return len(first) > 0 })
		if a, b := number(t, last[len(last)-1]), number(t, first[0]); b != a+1 {
			t.Fatalf("line %d comes after %d, which is the last of %s", b, a, old)
		}
	}
	if text := p.Logs("main", "?tailLines=10&limitBytes=1000"); text != "" && !strings.HasPrefix(text, "line ") {
		t.Errorf("kubelet shows %q", text)
	}
}

// rotated is the log that was rotated last, which is not compressed yet; "" before any was.
func (p *Pod) rotated(log string) string {
	p.t.Helper()
	paths, err := filepath.Glob(log + ".2*[0-9]")
	p.must(err)
	if len(paths) == 0 {
		return ""
	}
	return paths[len(paths)-1]
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// number is that of a line which rotates writes.
func number(t testing.TB, l harness.Line) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimPrefix(l.Text, "line "))
	if err != nil {
		t.Fatalf("line %q: %v", l.Text, err)
	}
	return n
}

// streams are exec and attach.
func streams(t *testing.T, n *Node) {
	p := n.Run(t, "streams", `
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: cat, image: BUSYBOX, stdin: true, command: [sh, -c, 'while read line; do echo got $line; done']}
  - {name: tty, image: BUSYBOX, stdin: true, tty: true, command: [sh]}
`)
	p.Ready()
	out, err := p.TryExec("cat", "from stdin", "sh", "-c", "cat; echo err >&2; exit 7")
	if !strings.Contains(out, "from stdin") || !strings.Contains(out, "err\n") || err == nil || !strings.Contains(err.Error(), "exit code 7") {
		t.Errorf("exec printed %q, and ended with %v", out, err)
	}
	big := strings.Repeat("0123456789abcde\n", 1<<16)
	if out, err := p.TryExec("cat", big, "cat"); err != nil || out != big {
		t.Errorf("1 MiB came back as %d bytes (%v)", len(out), err)
	}
	talk(t, p, "cat", "input=1&output=1&error=1", "hello\n", "got hello\n")
	talk(t, p, "cat", "input=1&output=1&error=1", "again\n", "got again\n")
	talk(t, p, "tty", "input=1&output=1&tty=1", "echo $((6 * 7))\n", "42\r\n")
	if text := p.Logs("cat", ""); text != "got hello\ngot again\n" {
		t.Errorf("the log is %q", text)
	}
}

// talk attaches to a container, says one thing and waits for the answer.
func talk(t *testing.T, p *Pod, container, query, say, answer string) {
	t.Helper()
	conn, err := p.node.dial(fmt.Sprintf("/attach/test/%s/%s?%s", p.fullName(), container, query), "v5.channel.k8s.io")
	p.must(err)
	defer conn.Close()
	p.must(conn.SetDeadline(time.Now().Add(30 * time.Second)))
	p.must(send(conn, stdin, []byte(say)))
	var text strings.Builder
	for !strings.Contains(text.String(), answer) {
		var message []byte
		if err := websocket.Message.Receive(conn, &message); err != nil {
			t.Fatalf("attach to %s brought %q: %v", container, text.String(), err)
		}
		if len(message) > 0 && message[0] == stdout {
			text.Write(message[1:])
		}
	}
}
