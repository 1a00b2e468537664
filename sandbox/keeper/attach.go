package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/berth-runtime/berth/sandbox/keeper/wire"
)

// Attach has what a stream of the process under key brings copied into a pipe as it comes, log or not,
// whose write end stays the caller's, to be closed. It begins at a position in the stream, 0 standing for
// now, and returns where it really does: further on when what was asked for is not kept any more.
// Positions count bytes.
//
// Whoever looks on slows nobody: the pipe is closed when its reader stays behind by more than 16 MiB, when
// the stream ends, and when the keeper dies. An Attach from where he had come to tells which it was:
// ErrUnknownKey is the stream's end, a position further on says how much he missed.
func (c *Client) Attach(ctx context.Context, key, stream string, position int64, pipe *os.File) (int64, error) {
	fd, err := dupFile(pipe)
	if err != nil {
		return 0, fmt.Errorf("attach to %q: %w", key, err)
	}
	defer closeAll(fd)
	r := &wire.Record{Key: key, Streams: []string{stream}, Position: position}
	for {
		a, _ := c.line.call(ctx, &call{kind: wire.KindAttach, child: -1}, r, []int{fd})
		if errors.Is(a.err, errLost) {
			continue // the next keeper has the stream, and knows nothing of the pipe
		}
		if a.err != nil {
			return 0, fmt.Errorf("attach to %s of %q: %w", stream, key, a.err)
		}
		return a.result.Position, nil
	}
}
