package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// capTime is how often logs are looked at: one may be larger than its cap by what is written meanwhile.
const capTime = time.Second

// oldLog is appended to the name of a log that has been cut off. kubelet takes all NAME.* for rotated ones, and removes them with
// the container.
const oldLog = ".old"

// capLogs bounds the logs of running containers where nobody rotates them: a log that is over its cap becomes NAME.old, instead of
// the one before, and goes on in a new file. No line is lost but with an old file. It ends when Close begins.
func (cs *containers) capLogs(ctx context.Context) {
	tick := time.NewTicker(capTime)
	defer tick.Stop()
	gone := map[string]bool{} // logs that were missing at the last look
	for {
		select {
		case <-cs.closing.Done():
			return
		case <-tick.C:
			gone = cs.lookAtLogs(ctx, gone)
		}
	}
}

// lookAtLogs cuts those off that are too large, and goes on with those that are missing for the second time: who renamed them
// didn't come to say so.
func (cs *containers) lookAtLogs(ctx context.Context, gone map[string]bool) map[string]bool {
	missing := map[string]bool{}
	for _, c := range cs.index.allContainers() {
		info := c.info.Load()
		if info == nil || info.State != ContainerRunning || info.LogPath == "" {
			continue
		}
		stat, err := os.Lstat(info.LogPath)
		switch {
		case errors.Is(err, unix.ENOENT) && !gone[c.id]:
			missing[c.id] = true
			continue
		case errors.Is(err, unix.ENOENT):
			err = cs.reopenLog(ctx, c)
		case err == nil && stat.Size() > cs.cfg.MaxLogSize:
			err = cs.cutLog(ctx, c)
		}
		if err != nil && !errors.Is(err, ErrState) { // it has ended meanwhile
			cs.log.WithFields(logrus.Fields{"container": c.id, "op": "cap log", "error": err}).Warn("log not capped")
		}
	}
	return missing
}

// cutLog renames a log, and goes on with a new one.
func (cs *containers) cutLog(ctx context.Context, c *container) error {
	name := path.Clean(c.config.LogPath)
	dir, err := unix.Open(c.pod.config.LogDirectory, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open log directory: %w", err)
	}
	defer unix.Close(dir)
	if below := path.Dir(name); below != "." {
		sub, err := openat2(dir, below, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: resolveLog})
		if err != nil {
			return fmt.Errorf("open directory %s: %w", below, err)
		}
		defer unix.Close(sub)
		dir = sub
	}
	base := path.Base(name)
	if err := unix.Renameat(dir, base, dir, base+oldLog); err != nil {
		return fmt.Errorf("rename log %s: %w", name, err)
	}
	if err := cs.reopenLog(ctx, c); err != nil {
		back := unix.Renameat2(dir, base+oldLog, dir, base, unix.RENAME_NOREPLACE)
		return errors.Join(err, back)
	}
	return nil
}
