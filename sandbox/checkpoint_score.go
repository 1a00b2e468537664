package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	metadata "github.com/checkpoint-restore/checkpointctl/lib"
	"golang.org/x/sys/unix"
)

// rescore gives the configuration's oom_score_adj to those of a restored container's processes that have the checkpoint's: kubelet computes it from
// the node's memory. A process that chose its own keeps that (proc(5)). Those
// that had 0 have it by inheritance.
func (ck *checkpoints) rescore(s *start, pids []int) error {
	dumped, _, err := metadata.ReadContainerCheckpointSpecDump(ck.cfg.restored(s.c.id))
	if err != nil {
		return fmt.Errorf("read the checkpoint's spec: %w", err)
	}
	if dumped.Process == nil {
		return nil
	}
	was, now := ck.parts.Programs.Clamp(dumped.Process).OOMScoreAdj, ck.parts.Programs.Clamp(s.spec.Process).OOMScoreAdj
	if was == nil || now == nil || *was == *now {
		return nil
	}
	for _, pid := range pids {
		path := filepath.Join("/proc", strconv.Itoa(pid), "oom_score_adj")
		text, err := os.ReadFile(path)
		if err == nil && strings.TrimSpace(string(text)) == strconv.Itoa(*was) {
			err = os.WriteFile(path, []byte(strconv.Itoa(*now)), 0)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ESRCH) { // it has ended
			return fmt.Errorf("set oom_score_adj of a restored process: %w", err)
		}
	}
	return nil
}
