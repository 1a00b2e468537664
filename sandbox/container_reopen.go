package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ReopenContainerLog goes on with a new file at the path of a running container's
// log (ErrState otherwise), from which a client has renamed the old one. No line is
// lost or cut: what is under way goes into the old file. On an error there is no
// new file, and the old one stays the log.
func (cs *containers) ReopenContainerLog(ctx context.Context, id string) error {
	c, err := cs.index.container(id)
	if err != nil {
		return err
	}
	if err := cs.reopenLog(ctx, c); err != nil {
		return fmt.Errorf("reopen log of container %s: %w", c.config.Metadata.Name, err)
	}
	return nil
}

func (cs *containers) reopenLog(ctx context.Context, c *container) error {
	proc := c.running()
	if proc == nil {
		return stateError("container", c.id, c.now().State)
	}
	defer proc.release()
	path := c.now().LogPath
	if path == "" {
		return fmt.Errorf("it has none: %w", ErrState)
	}
	_, missing := os.Lstat(path)
	log, err := openLog(c.pod.config.LogDirectory, c.config.LogPath)
	if err != nil {
		return err
	}
	defer log.Close()
	if err := cs.parts.Keeper.Reopen(ctx, c.id, log); err != nil {
		if missing != nil {
			err = errors.Join(err, dropLog(path, log))
		}
		return err
	}
	return nil
}

// dropLog removes a new log that nobody has written to, if it is still the one at
// its path.
func dropLog(path string, log *os.File) error {
	own, err := log.Stat()
	if err != nil || own.Size() > 0 {
		return err
	}
	if now, err := os.Lstat(path); err != nil || !os.SameFile(own, now) {
		return nil // it is gone, or another's
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove new log: %w", err)
	}
	return nil
}
