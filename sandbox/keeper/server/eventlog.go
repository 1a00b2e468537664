package server

import (
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"
)

// eventLog writes a line an event, as the daemon's log does: time, message, fields. A few lines of its
// own keep a logging library out of the keeper.
type eventLog struct {
	mu sync.Mutex
	w  io.Writer
}

// event logs a message with fields: key, value, key, value …
func (l *eventLog) event(message string, fields ...any) {
	if l.w == nil {
		return
	}
	b := append([]byte("time="), time.Now().UTC().Format(time.RFC3339Nano)...)
	b = append(b, " msg="...)
	b = strconv.AppendQuote(b, message)
	for i := 0; i+1 < len(fields); i += 2 {
		b = append(b, ' ')
		b = append(b, fmt.Sprint(fields[i])...)
		b = append(b, '=')
		b = strconv.AppendQuote(b, fmt.Sprint(fields[i+1]))
	}
	b = append(b, '\n')
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.w.Write(b) // there is nowhere else to say that it failed
}
