package kubelet

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// rotates is a log that kubelet rotates while it is written.
func rotates(t *testing.T, n *Node) {
	p := n.Run(t, "rotates", `
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: BUSYBOX, command: [sh, -c, 'i=0; while :; do echo line $i; i=$((i+1)); test $((i % 500)) = 0 && sleep 0.2; done']}
`)
	p.Ready()
	files := func() []string {
		paths, err := filepath.Glob(filepath.Join(n.Dir, "logs", "*"+p.uid(), "main", "0.log*"))
		p.must(err)
		return paths
	}
	eventually(t, "two rotated logs", func() bool { return len(files()) >= 3 })
	first := -1
	for tries := 0; first < 0 && tries < 20; tries++ {
		lines := strings.Split(strings.TrimSpace(p.Logs("main", "?tailLines=1000")), "\n")
		for i, line := range lines {
			number, err := strconv.Atoi(strings.TrimPrefix(line, "line "))
			p.must(err)
			if first < 0 {
				first = number - i
			}
			if number != first+i {
				t.Fatalf("line %d comes after %d", number, first+i-1)
			}
		}
	}
	before := p.Logs("main", "?tailLines=1")
	eventually(t, "the log to go on", func() bool { return p.Logs("main", "?tailLines=1") != before })
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
