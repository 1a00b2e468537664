package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"syscall"
	"time"

	"github.com/berth-runtime/berth/oci/launch"
	"github.com/berth-runtime/berth/oci/program/unpack"
)

// Version is the version of the format that this package speaks. A later one may append fields to
// bodies: decoders ignore what follows the fields that they know. Oldest is what a daemon still talks
// to; a keeper before Pinged takes no pings.
const (
	Version = 4
	Pinged  = 4
	Oldest  = 3
)

// ErrFormat is what errors about malformed bytes wrap.
var ErrFormat = errors.New("malformed keeper message")

// Kind says what a message is.
type Kind uint8

// The kinds of messages; doc.go shows who sends which.
const (
	KindHello Kind = iota + 1
	KindKept
	KindListed
	KindLaunch
	KindAdopt
	KindHold
	KindForget
	KindAbort
	KindReopen
	KindShutdown
	KindStarted
	KindDone
	KindExit
	kindMore // further descriptors of the message before
	KindAttach
	KindPing
	kindEnd // no kind: their number
)

// Bounds of a message.
const (
	MaxBody    = 48 << 10 // the body is in the first packet
	MaxFiles   = 1 << 14
	MaxStreams = 8
	maxRights  = 253 // SCM_MAX_FD: unix(7)
	headerLen  = 16
)

// The head of each packet, little endian; the body of the message follows in its first packet:
//
//	0    1    2      3        4            8              12            16
//	+----+----+------+--------+------------+--------------+-------------+------ …
//	| 'b'| 'k'| kind | unused | request id | body, bytes  | files       | body
//	+----+----+------+--------+------------+--------------+-------------+------ …
//
// files counts the descriptors of the whole message. At most 253 come with one packet, the rest with
// packets of kindMore, whose files counts those that it brings and whose body is empty.
type header struct {
	kind  Kind
	id    uint32
	body  int
	files int
}

func (h header) append(b []byte) []byte {
	b = append(b, 'b', 'k', byte(h.kind), 0)
	b = binary.LittleEndian.AppendUint32(b, h.id)
	b = binary.LittleEndian.AppendUint32(b, uint32(h.body))
	return binary.LittleEndian.AppendUint32(b, uint32(h.files))
}

// parseHeader checks the head of a packet and that the packet has the body it claims.
func parseHeader(p []byte) (header, error) {
	if len(p) < headerLen || p[0] != 'b' || p[1] != 'k' {
		return header{}, fmt.Errorf("%w: no header", ErrFormat)
	}
	body, files := binary.LittleEndian.Uint32(p[8:]), binary.LittleEndian.Uint32(p[12:])
	if uint64(body) != uint64(len(p)-headerLen) || body > MaxBody {
		return header{}, fmt.Errorf("%w: body of %d bytes in a packet of %d", ErrFormat, body, len(p))
	}
	if files > MaxFiles {
		return header{}, fmt.Errorf("%w: %d descriptors", ErrFormat, files)
	}
	h := header{kind: Kind(p[2]), id: binary.LittleEndian.Uint32(p[4:]), body: int(body), files: int(files)}
	if h.kind == 0 || h.kind >= kindEnd {
		return header{}, fmt.Errorf("%w: kind %d", ErrFormat, h.kind)
	}
	return h, nil
}

// Hello opens a conversation:
//
//	version:u16 refused:u8 pid:u32
type Hello struct {
	Version int
	PID     int
	Refused bool // the keeper serves another daemon
}

// Append appends the body.
func (h Hello) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(h.Version))
	b = append(b, flag(h.Refused, 1))
	return binary.LittleEndian.AppendUint32(b, uint32(h.PID))
}

// ParseHello reads a body.
func ParseHello(body []byte) (Hello, error) {
	r := newReader(body)
	h := Hello{Version: int(r.U16()), Refused: r.U8() != 0, PID: int(r.U32())}
	return h, r.err()
}

// Record is the body of everything that concerns one key: requests, what is kept, an exit.
//
//	key:name flags:u8 pid:u32 maxline:u32 generation:u32
//	slots:u16 logs:u8 streams:u8 name… holds:u16 name… [status:u32 at:i64] position:u64
//
// A name is its length as u8 (never 0), then its bytes. flags: 1 oneshot, 2 program, 4 pidfd,
// 8 journals, 16 exit (status and at follow), 32 exit status known, 64 relays, 128 timed.
//
// The descriptors of a record come in this order:
//
//	program  slots…  pidfd  streams…  journals… relays… (one a stream)  logs…  holds…
type Record struct {
	Key        string
	Oneshot    bool
	HasProgram bool
	HasPidFD   bool
	Journals   bool
	Relays     bool // one of the streams is no pipe
	PID        int
	MaxLine    int
	Generation uint32 // of the last log; a log before it is of the generation before
	Slots      int
	Logs       int // 0 to 2
	Streams    []string
	Holds      []string
	Exit       *Exit
	Position   int64 // of an attach: where in the stream to begin; 0: now
	Timed      bool  // of a launch: its Result is to have Times
}

// Exit is how and when a process ended.
type Exit struct {
	Status syscall.WaitStatus
	Known  bool
	At     time.Time
}

// Files returns how many descriptors come with the record.
func (r *Record) Files() int {
	n := int(flag(r.HasProgram, 1)) + r.Slots + int(flag(r.HasPidFD, 1)) + len(r.Streams) + r.Logs + len(r.Holds)
	if r.Journals {
		n += len(r.Streams)
	}
	if r.Relays {
		n += len(r.Streams)
	}
	return n
}

// Append appends the body.
func (r *Record) Append(b []byte) []byte {
	le := binary.LittleEndian
	b = appendName(b, r.Key)
	flags := flag(r.Oneshot, 1) | flag(r.HasProgram, 2) | flag(r.HasPidFD, 4) | flag(r.Journals, 8) | flag(r.Exit != nil, 16) | flag(r.Relays, 64) | flag(r.Timed, 128)
	if r.Exit != nil {
		flags |= flag(r.Exit.Known, 32)
	}
	b = append(b, flags)
	b = le.AppendUint32(b, uint32(r.PID))
	b = le.AppendUint32(b, uint32(r.MaxLine))
	b = le.AppendUint32(b, r.Generation)
	b = le.AppendUint16(b, uint16(r.Slots))
	b = append(b, byte(r.Logs), byte(len(r.Streams)))
	for _, s := range r.Streams {
		b = appendName(b, s)
	}
	b = le.AppendUint16(b, uint16(len(r.Holds)))
	for _, s := range r.Holds {
		b = appendName(b, s)
	}
	if r.Exit != nil {
		b = le.AppendUint32(b, uint32(r.Exit.Status))
		b = le.AppendUint64(b, uint64(r.Exit.At.UnixNano()))
	}
	return le.AppendUint64(b, uint64(r.Position))
}

// Check says whether the record fits the wire: names of 1 to 255 bytes, numbers in range.
func (r *Record) Check() error {
	for _, names := range [][]string{{r.Key}, r.Streams, r.Holds} {
		for _, n := range names {
			if n == "" || len(n) > 255 {
				return fmt.Errorf("%w: name of %d bytes, 1 to 255 are allowed", ErrFormat, len(n))
			}
		}
	}
	switch {
	case len(r.Streams) > MaxStreams:
		return fmt.Errorf("%w: %d streams", ErrFormat, len(r.Streams))
	case r.Logs < 0 || r.Logs > 2:
		return fmt.Errorf("%w: %d logs", ErrFormat, r.Logs)
	case r.Slots < 0 || r.Files() > MaxFiles:
		return fmt.Errorf("%w: %d descriptors", ErrFormat, r.Files())
	}
	return nil
}

// ParseRecord reads a body that came with that many descriptors.
func ParseRecord(body []byte, files int) (*Record, error) {
	d := newReader(body)
	r := &Record{Key: d.name()}
	flags := d.U8()
	r.Oneshot, r.HasProgram, r.HasPidFD, r.Journals, r.Relays = flags&1 != 0, flags&2 != 0, flags&4 != 0, flags&8 != 0, flags&64 != 0
	r.Timed = flags&128 != 0
	r.PID, r.MaxLine, r.Generation = int(d.U32()), int(d.U32()), d.U32()
	r.Slots, r.Logs = int(d.U16()), int(d.U8())
	r.Streams = d.names(int(d.U8()))
	r.Holds = d.names(int(d.U16()))
	if flags&16 != 0 {
		r.Exit = &Exit{Status: syscall.WaitStatus(d.U32()), Known: flags&32 != 0, At: time.Unix(0, int64(d.U64()))}
	}
	r.Position = int64(d.U64())
	if err := d.err(); err != nil {
		return nil, err
	}
	if err := r.Check(); err != nil {
		return nil, err
	}
	if r.Files() != files {
		return nil, fmt.Errorf("%w: %d descriptors for a record of %d", ErrFormat, files, r.Files())
	}
	return r, nil
}

// Code says how a request ended.
type Code uint8

// The codes of a Result.
const (
	OK         Code = iota
	Failed          // Errno and Text say why
	StepFailed      // a launch program's step failed: Step, Errno
	InUse
	Unknown
	StillKept
	Aborted
)

// Result is the body of Done and Started:
//
//	code:u8 errno:u32 step:u32 pid:u32 text:u16 bytes… position:u64
//	timed:u8 [ordered:i64 begun:i64 done:i64 steps:u16 at:i64…]
//
// What is in brackets follows a timed of 1: launch.Times. A keeper of before there were any ends with the position.
//
// Started comes with the child's pidfd, Done of a launch that succeeded with the process's.
type Result struct {
	Code  Code
	Errno syscall.Errno
	Step  int
	PID   int
	Text  string
	// Position is where in the stream an attach begins.
	Position int64
	Times    *launch.Times // nil: nobody asked, or the keeper is of a version that does not know
}

// Append appends the body. A text beyond 1024 bytes is cut.
func (r Result) Append(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, byte(r.Code))
	b = le.AppendUint32(b, uint32(r.Errno))
	b = le.AppendUint32(b, uint32(r.Step))
	b = le.AppendUint32(b, uint32(r.PID))
	text := r.Text[:min(len(r.Text), 1024)]
	b = le.AppendUint16(b, uint16(len(text)))
	b = append(b, text...)
	b = le.AppendUint64(b, uint64(r.Position))
	b = append(b, flag(r.Times != nil, 1))
	if r.Times == nil {
		return b
	}
	for _, at := range []int64{r.Times.Ordered, r.Times.Begun, r.Times.Done} {
		b = le.AppendUint64(b, uint64(at))
	}
	b = le.AppendUint16(b, uint16(len(r.Times.Steps)))
	for _, at := range r.Times.Steps {
		b = le.AppendUint64(b, uint64(at))
	}
	return b
}

// ParseResult reads a body.
func ParseResult(body []byte) (Result, error) {
	d := newReader(body)
	r := Result{Code: Code(d.U8()), Errno: syscall.Errno(d.U32()), Step: int(d.U32()), PID: int(d.U32())}
	r.Text = string(d.Bytes(int(d.U16())))
	r.Position = int64(d.U64())
	if d.Len() > 0 && d.U8() == 1 {
		r.Times = d.times()
	}
	return r, d.err()
}

func flag(on bool, bit byte) byte {
	if on {
		return bit
	}
	return 0
}

func appendName(b []byte, s string) []byte {
	return append(append(b, byte(len(s))), s...)
}

// reader takes a body apart.
type reader struct{ unpack.Reader }

func newReader(body []byte) reader { return reader{unpack.NewReader(body)} }

func (r *reader) name() string { return string(r.Bytes(int(r.U8()))) }

func (r *reader) names(n int) []string {
	if n = r.Count(n, 1, math.MaxUint16); n == 0 {
		return nil
	}
	v := make([]string, n)
	for i := range v {
		v[i] = r.name()
	}
	return v
}

func (r *reader) times() *launch.Times {
	t := &launch.Times{Ordered: int64(r.U64()), Begun: int64(r.U64()), Done: int64(r.U64())}
	t.Steps = make([]int64, r.Count(int(r.U16()), 8, launch.MaxTimed))
	for i := range t.Steps {
		t.Steps[i] = int64(r.U64())
	}
	return t
}

func (r *reader) err() error {
	if r.Short() {
		return fmt.Errorf("%w: it ends early", ErrFormat)
	}
	return nil
}
