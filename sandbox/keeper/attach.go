package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/berth-runtime/berth/sandbox/keeper/wire"
	"golang.org/x/sys/unix"
)

// tapSize is how much an onlooker may be behind before the keeper keeps the rest for him.
const tapSize = 1 << 20

// Attach has what a stream of the process under key brings copied into a pipe as it comes, log or not, and returns the end to
// read, the caller's to close. It begins at a position in the stream, 0 standing for now, and returns where it really does: further
// on when what was asked for is not kept any more. Positions count bytes.
//
// Whoever looks on slows nobody: the pipe is closed when its reader stays behind by more than 16 MiB, when
// the stream ends, and when the keeper dies. An Attach from where he had come to tells which it was:
// ErrUnknownKey is the stream's end, a position further on says how much he missed.
func (c *Client) Attach(ctx context.Context, key, stream string, position int64) (pipe *os.File, at int64, err error) {
	for {
		pipe, at, err := c.tryAttach(ctx, key, stream, position)
		if errors.Is(err, errLost) {
			// The next keeper has the stream. The lost one may have written to its pipe, from where nobody knows.
			continue
		}
		if err != nil {
			return nil, 0, fmt.Errorf("attach to %s of %q: %w", stream, key, err)
		}
		return pipe, at, nil
	}
}

func (c *Client) tryAttach(ctx context.Context, key, stream string, position int64) (*os.File, int64, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, 0, fmt.Errorf("make pipe: %w", err)
	}
	defer write.Close()
	enlarge(read)
	fd, err := dupFile(write) // Fd would make the pipe one that blocks
	if err != nil {
		read.Close()
		return nil, 0, err
	}
	defer closeAll(fd)
	r := &wire.Record{Key: key, Streams: []string{stream}, Position: position}
	a, _ := c.line.call(ctx, &call{kind: wire.KindAttach, child: -1}, r, []int{fd})
	if a.err != nil {
		read.Close()
		return nil, 0, a.err
	}
	return read, a.result.Position, nil
}

// enlarge is refused to those who may have no more; the pipe is good as it is.
func enlarge(pipe *os.File) {
	raw, err := pipe.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, tapSize) })
	}
}
