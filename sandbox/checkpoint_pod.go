package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	metadata "github.com/checkpoint-restore/checkpointctl/lib"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// podFormat is the version of a pod's checkpoint: a directory with
//
//	pod.options    the version, and the archives by their containers' names
//	pod.dump       the pod's configuration
//	ID.tar         the archive of a container, as CheckpointContainer's
const podFormat = 1

// CheckpointPod writes running containers of a pod that is ready (ErrState otherwise) to output, an empty directory. All of them are stopped
// before the first is captured, and go on when the last is, also after an error, which leaves the directory empty. Nothing else may be written
// to the directory meanwhile; another call that wants to is ErrState. ctx should have a deadline;
// without, it is two minutes.
// A call that says the same as one that is under way joins it.
//
// Errors: as CheckpointContainer's. ErrState also: several containers in the host's network, which can't be stopped together.
func (ck *checkpoints) CheckpointPod(ctx context.Context, id, output string, containers []string) error {
	p, err := ck.index.pod(id)
	if err != nil {
		return err
	}
	key := fmt.Sprintf("checkpoint pod %s to %s of %q", p.id, output, containers)
	_, err = ck.tasks.toTheEnd(ctx, key, 0, func(ctx context.Context) (string, error) {
		return "", ck.checkpointPod(ctx, p, output, containers)
	})
	if err != nil {
		return fmt.Errorf("checkpoint pod %s: %w", p.title(), err)
	}
	return nil
}

// takeOutput refuses what isn't an empty directory, and keeps other checkpoints of pods out of it (flock(2)) until it is released: one that
// fails empties it.
func takeOutput(output string) (release func(), err error) {
	wrong := func(rule string) error {
		return &spec.FieldError{Field: "output_path", Value: output, Rule: rule}
	}
	if !filepath.IsAbs(output) || filepath.Clean(output) != output {
		return nil, wrong("must be a clean absolute path")
	}
	dir, err := os.OpenFile(output, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, wrong("must be a directory: " + err.Error())
	}
	defer func() {
		if err != nil {
			dir.Close()
		}
	}()
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("output_path %s: another checkpoint is written to it: %w", output, ErrState)
	} else if err != nil {
		return nil, fmt.Errorf("lock output_path %s: %w", output, err)
	}
	names, err := dir.Readdirnames(1)
	if len(names) > 0 {
		return nil, wrong("must be empty")
	}
	if !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read output_path %s: %w", output, err)
	}
	return func() { dir.Close() }, nil
}

func (ck *checkpoints) checkpointPod(ctx context.Context, p *pod, output string, ids []string) (err error) {
	began := time.Now()
	ctx, stop := with(ctx, p.life)
	defer stop()
	leave, err := p.take(ctx)
	if err != nil {
		return err
	}
	defer leave()
	release, err := takeOutput(output)
	if err != nil {
		return err
	}
	defer release()
	if s := p.state(); s != PodReady {
		return stateError("pod", p.id, s)
	}
	containers, err := ck.selected(p, ids)
	if err != nil {
		return err
	}
	if err := ck.parts.CRIU.Check(ctx); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, empty(output))
		}
	}()
	if err := ck.dumpTogether(ctx, output, containers); err != nil {
		return err
	}
	options := metadata.CheckpointedPodOptions{Version: podFormat, Containers: map[string]string{}}
	for _, c := range containers {
		options.Containers[c.config.Metadata.Name] = c.id
	}
	for name, value := range map[string]any{metadata.PodOptionsFile: options, metadata.PodDumpFile: p.now().Config} {
		if _, err := metadata.WriteJSONFile(value, output, name); err != nil {
			return fmt.Errorf("describe pod: %w", err)
		}
	}
	ck.log.WithFields(logrus.Fields{"pod": p.id, "took": time.Since(began)}).Info("pod checkpointed")
	return nil
}

// selected are the containers that the client named.
func (ck *checkpoints) selected(p *pod, ids []string) ([]*container, error) {
	byName := map[string]*container{}
	for i, id := range ids {
		wrong := func(rule string) error {
			return &spec.FieldError{Field: fmt.Sprintf("container_ids[%d]", i), Value: id, Rule: rule}
		}
		c, err := ck.index.container(id)
		if err != nil {
			return nil, err
		}
		if c.pod != p {
			return nil, wrong("must be a container of the pod")
		}
		name := c.config.Metadata.Name
		if byName[name] != nil {
			return nil, wrong("is named a second time")
		}
		byName[name] = c
		if err := dumpable(c); err != nil {
			return nil, err
		}
	}
	if len(byName) == 0 {
		return nil, &spec.FieldError{Field: "container_ids", Rule: "must name a container"}
	}
	if len(byName) > 1 && p.config.Security.Namespaces.Network == spec.NamespaceNode {
		return nil, fmt.Errorf("checkpoint of %d containers in the host's network: criu can't stop them together: %w", len(byName), ErrState)
	}
	return slices.Collect(maps.Values(byName)), nil
}

// dumpTogether dumps containers at one moment.
func (ck *checkpoints) dumpTogether(ctx context.Context, output string, containers []*container) error {
	group, ctx := errgroup.WithContext(ctx)
	seized, captured := newMeeting(len(containers)), newMeeting(len(containers))
	for _, c := range containers {
		group.Go(func() error { // ends with the dump, which ends when another fails
			return guarded(func() error {
				return ck.dumpInto(ctx, output, c, func() error { return seized.wait(ctx) }, func() error { return captured.wait(ctx) })
			})
		})
	}
	return group.Wait() // the first error; the others' are that it happened
}

func (ck *checkpoints) dumpInto(ctx context.Context, output string, c *container, seized, captured func() error) error {
	dir, remove, err := ck.stage(output, c.id)
	if err != nil {
		return err
	}
	defer remove()
	d, err := ck.newDump(c, dir)
	if err != nil {
		return err
	}
	if err := d.run(ctx, seized, captured); err != nil {
		return fmt.Errorf("container %s: %w", c.config.Metadata.Name, err)
	}
	return writeArchive(ctx, dir, filepath.Join(output, c.id+".tar"))
}

// empty removes what is in a directory.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

// meeting lets nobody go on before all have come.
type meeting struct {
	mu      sync.Mutex
	missing int
	all     chan struct{}
}

func newMeeting(n int) *meeting { return &meeting{missing: n, all: make(chan struct{})} }

func (m *meeting) wait(ctx context.Context) error {
	m.mu.Lock()
	if m.missing--; m.missing == 0 {
		close(m.all)
	}
	m.mu.Unlock()
	select {
	case <-m.all:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
