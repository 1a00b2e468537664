package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// ErrCorrupt is a journal whose header makes no sense.
var ErrCorrupt = errors.New("corrupt journal")

// Start is the file offset of a journal before its first byte.
const Start = 4096

// Bounds of one batch: raw bytes read and formatted bytes written in one go.
const (
	batchRaw = 64 << 10
	batchOut = 128 << 10
)

// MaxLine bounds the length after which lines are cut; DefaultMaxLine is what kubelet is used to.
const (
	DefaultMaxLine = 16 << 10
	MaxLine        = 1 << 20
)

// Create makes an empty journal, close-on-exec.
func Create() (int, error) {
	fd, err := unix.MemfdCreate("berth-journal", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("create journal: %w", err)
	}
	if _, err := unix.Seek(fd, Start, unix.SEEK_SET); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("seek journal: %w", err)
	}
	return fd, nil
}

// CreateRelay makes the pipe that a terminal's bytes take to the journal, as one descriptor for both its ends
// (fifo(7): opened O_RDWR it has both), close-on-exec and non-blocking.
func CreateRelay() (int, error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return -1, fmt.Errorf("create relay: %w", err)
	}
	defer unix.Close(ends[0])
	defer unix.Close(ends[1])
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", ends[0]), unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open relay: %w", err)
	}
	return fd, nil
}

// Header of a journal, little endian, 64 bytes at offset 0, written by one pwrite(2):
//
//	0        4            8       16       20        24      32          40
//	+--------+------------+-------+--------+---------+-------+-----------+-----
//	| "bjnl" | generation | start | length | output  | time  | log size  | zero
//	+--------+------------+-------+--------+---------+-------+-----------+-----
//
// "length raw bytes from start on are output bytes of log entries at that time (ns), and go into the log
// of that generation, which was so long before." A length of 0: all bytes before start are written.
type header struct {
	generation uint32
	start      int64
	length     int
	output     int
	at         int64
	logSize    int64
}

const headerLen = 64

func (h header) marshal(b *[headerLen]byte) {
	le := binary.LittleEndian
	copy(b[:], "bjnl")
	le.PutUint32(b[4:], h.generation)
	le.PutUint64(b[8:], uint64(h.start))
	le.PutUint32(b[16:], uint32(h.length))
	le.PutUint32(b[20:], uint32(h.output))
	le.PutUint64(b[24:], uint64(h.at))
	le.PutUint64(b[32:], uint64(h.logSize))
}

// parseHeader returns false when there is no header: all bytes before the file offset are in the log.
func parseHeader(b []byte, offset int64) (h header, ok bool, err error) {
	if len(b) < headerLen || [headerLen]byte(b) == [headerLen]byte{} {
		return header{}, false, nil
	}
	le := binary.LittleEndian
	h = header{
		generation: le.Uint32(b[4:]),
		start:      int64(le.Uint64(b[8:])),
		length:     int(le.Uint32(b[16:])),
		output:     int(le.Uint32(b[20:])),
		at:         int64(le.Uint64(b[24:])),
		logSize:    int64(le.Uint64(b[32:])),
	}
	if string(b[:4]) != "bjnl" || h.start < Start || h.length > MaxLine+batchRaw || h.start+int64(h.length) > offset || h.logSize < 0 {
		return header{}, false, fmt.Errorf("%w: header %x", ErrCorrupt, b[:headerLen])
	}
	return h, true, nil
}

// readHeader reads the header of the journal fd, and the file offset.
func readHeader(fd int) (h header, ok bool, offset int64, err error) {
	if offset, err = unix.Seek(fd, 0, unix.SEEK_CUR); err != nil {
		return h, false, 0, fmt.Errorf("read journal's offset: %w", err)
	}
	if offset < Start {
		return h, false, 0, fmt.Errorf("%w: offset %d", ErrCorrupt, offset)
	}
	var b [headerLen]byte
	n, err := unix.Pread(fd, b[:], 0)
	if err != nil {
		return h, false, 0, fmt.Errorf("read journal: %w", err)
	}
	h, ok, err = parseHeader(b[:n], offset)
	return h, ok, offset, err
}

func now() int64 { return time.Now().UnixNano() }
