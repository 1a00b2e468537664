package journal

import (
	"bytes"
	"time"
)

// timeFormat is RFC3339Nano with all nine digits, as CRI logs have it; always UTC.
const timeFormat = "2006-01-02T15:04:05.000000000Z07:00"

// Formatter turns raw bytes into CRI log entries: "time stream tag text\n" (kubelet's
// pkg/kubelet/kuberuntime/logs reads them). Tag F is a line's last piece, P one that goes on in the
// stream's next entry.
type Formatter struct {
	stream  string
	maxLine int
	prefix  []byte // time and stream of the present batch
}

// NewFormatter returns a formatter for a stream ("stdout") that cuts lines after maxLine bytes.
func NewFormatter(stream string, maxLine int) *Formatter {
	return &Formatter{stream: stream, maxLine: maxLine}
}

// setTime sets the time of the entries to come.
func (f *Formatter) setTime(at time.Time) {
	f.prefix = at.UTC().AppendFormat(f.prefix[:0], timeFormat)
	f.prefix = append(f.prefix, ' ')
	f.prefix = append(f.prefix, f.stream...)
	f.prefix = append(f.prefix, ' ')
}

// Format appends the entries of raw to dst and says how many bytes of raw they took. It stops before an
// entry that would not fit into dst's capacity. An unfinished line of up to maxLine bytes stays for
// later, unless rest is set: then it becomes an entry with tag P.
//
// Bytes taken once give the same entries when formatted again by themselves with rest set, at the same time.
func (f *Formatter) Format(dst, raw []byte, rest bool) (out []byte, taken int) {
	prefix, limit := f.prefix, cap(dst)
	for taken < len(raw) {
		text := raw[taken:]
		n := bytes.IndexByte(text[:min(len(text), f.maxLine+1)], '\n')
		tag, skip := byte('F'), 1
		if n < 0 {
			if len(text) <= f.maxLine && !rest {
				break
			}
			n, tag, skip = min(len(text), f.maxLine), 'P', 0
		}
		if len(dst)+len(prefix)+n+3 > limit {
			break
		}
		dst = append(dst, prefix...)
		dst = append(dst, tag, ' ')
		dst = append(dst, text[:n]...)
		dst = append(dst, '\n')
		taken += n + skip
	}
	return dst, taken
}

// entryMax is the length of the longest entry.
func (f *Formatter) entryMax() int {
	return len(timeFormat) + len(f.stream) + f.maxLine + 8
}
