package layer

import (
	"bufio"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"
)

// frames reads a zstd stream (RFC 8878 section 3.1) as it is, and ends before a frame whose window is larger than allowed. Headers of frames and blocks
// say where each ends; one that can't be read, and all after it, is passed on, for the decoder to complain of.
type frames struct {
	r        *bufio.Reader
	allowed  uint64
	wants    uint64 // the window of the frame that the stream stopped before
	inFrame  bool
	checksum bool  // the frame has one behind its last block
	left     int64 // of the piece that is passed on
}

const (
	// frameHeaderSize is the most that one has: magic number, descriptor, window, dictionary, content size.
	frameHeaderSize = 4 + 1 + 1 + 4 + 8
	blockHeaderSize = 3
	checksumSize    = 4
	// toTheEnd is a piece that is all the rest.
	toTheEnd = math.MaxInt64
)

func newFrames(r *bufio.Reader) *frames { return &frames{r: r} }

// allow lets frames with windows of so many bytes pass.
func (f *frames) allow(window uint64) { f.allowed, f.wants = window, 0 }

func (f *frames) Read(p []byte) (int, error) {
	for f.left == 0 {
		if err := f.find(); err != nil {
			return 0, err
		}
	}
	n, err := f.r.Read(p[:min(int64(len(p)), f.left)])
	f.left -= int64(n)
	return n, err
}

// find finds the next piece: a frame's header, a block with its own, a frame to skip.
func (f *frames) find() error {
	if f.inFrame {
		return f.block()
	}
	start, err := f.r.Peek(frameHeaderSize) // shorter at the stream's end
	if len(start) == 0 {
		return err
	}
	var header zstd.Header
	if header.Decode(start) != nil {
		f.left = toTheEnd
		return nil
	}
	if header.Skippable {
		f.left = int64(header.HeaderSize) + int64(header.SkippableSize)
		return nil
	}
	window := header.WindowSize
	if header.SingleSegment {
		window = header.FrameContentSize // RFC 8878 section 3.1.1.1.2
	}
	if window = max(window, zstd.MinWindowSize); window > f.allowed {
		f.wants = window
		return io.EOF
	}
	f.left, f.inFrame, f.checksum = int64(header.HeaderSize), true, header.HasCheckSum
	return nil
}

// block finds the next block (RFC 8878 section 3.1.1.2).
func (f *frames) block() error {
	start, _ := f.r.Peek(blockHeaderSize)
	if len(start) < blockHeaderSize {
		f.left = toTheEnd
		return nil
	}
	const last, rle, reserved = 1, 1, 3
	header := int64(start[0]) | int64(start[1])<<8 | int64(start[2])<<16
	size := header >> 3
	switch header >> 1 & 3 {
	case rle:
		size = 1
	case reserved:
		f.left = toTheEnd
		return nil
	}
	f.left = blockHeaderSize + size
	if header&last != 0 {
		f.inFrame = false
		if f.checksum {
			f.left += checksumSize
		}
	}
	return nil
}
