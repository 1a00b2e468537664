package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/oci/criu"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// checkpointTime is how long a checkpoint may take when its client says nothing: what kubelet waits.
const checkpointTime = 2 * time.Minute

// checkpoints are dumps of running containers, and what is restored from them.
type checkpoints struct {
	*base
	builder  *specBuilder
	programs *keptPrograms
}

// CheckpointContainer writes a running container (ErrState otherwise) to an archive, in checkpointctl's format, and lets it go on. location
// is an absolute path on the host, whose directory exists (spec.ErrInvalid); it appears when it is whole, in place of what was there. A
// timeout of 0 stands for two minutes; ErrTimeout when it was too short. Nothing is left behind on an error, and the container runs on.
//
// ErrNoCheckpoint: the node can't do it. ErrState also: the container has what isn't dumped, see dumpable.
func (ck *checkpoints) CheckpointContainer(ctx context.Context, id, location string, timeout time.Duration) error {
	c, err := ck.index.container(id)
	if err != nil {
		return err
	}
	if err := checkLocation(location); err != nil {
		return err
	}
	if timeout <= 0 {
		timeout = checkpointTime
	}
	key := "checkpoint container " + c.id + " to " + location
	_, err = ck.tasks.toTheEnd(ctx, key, timeout, func(ctx context.Context) (string, error) {
		return "", ck.checkpoint(ctx, c, location)
	})
	if err != nil {
		return fmt.Errorf("checkpoint container %s: %w", c.config.Metadata.Name, err)
	}
	return nil
}

// toTheEnd is do that waits for the work's end, whatever becomes of the client: when it returns containers run on, and of what failed nothing
// is left. The work has until ctx's deadline, or for as long as limit if that is shorter; limit 0 stands for checkpointTime where
// ctx has no deadline. ErrTimeout when that was too short.
func (t *tasks) toTheEnd(ctx context.Context, key string, limit time.Duration, work func(context.Context) (string, error)) (string, error) {
	deadline, ok := ctx.Deadline()
	switch {
	case ok && limit == 0:
		limit = time.Until(deadline)
	case ok:
		limit = min(limit, time.Until(deadline))
	case limit == 0:
		limit = checkpointTime
	}
	return t.do(context.WithoutCancel(ctx), key, limit, func(ctx context.Context) (string, error) {
		value, err := work(ctx)
		if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = errors.Join(ErrTimeout, err)
		}
		return value, err
	})
}

// checkLocation refuses what can't become an archive.
func checkLocation(location string) error {
	wrong := func(rule string) error { return &spec.FieldError{Field: "location", Value: location, Rule: rule} }
	if !filepath.IsAbs(location) || filepath.Clean(location) != location {
		return wrong("must be a clean absolute path")
	}
	if st, err := os.Lstat(location); err == nil && !st.Mode().IsRegular() {
		return wrong("must not be anything but a regular file")
	}
	if st, err := os.Stat(filepath.Dir(location)); err != nil || !st.IsDir() {
		return wrong("must be in a directory that exists")
	}
	return nil
}

func (ck *checkpoints) checkpoint(ctx context.Context, c *container, location string) error {
	began := time.Now()
	ctx, stop := with(ctx, c.pod.life)
	defer stop()
	leave, err := c.pod.take(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err := dumpable(c); err != nil {
		return err
	}
	if err := ck.parts.CRIU.Check(ctx); err != nil {
		return err
	}
	if err := ck.awaitSweep(ctx); err != nil { // which would take the directory for an old one
		return err
	}
	dir, remove, err := ck.stage(ck.cfg.checkpoints(), c.id)
	if err != nil {
		return err
	}
	defer remove()
	d, err := ck.newDump(c, dir)
	if err != nil {
		return err
	}
	if err := d.run(ctx, nil, nil); err != nil {
		return err
	}
	if err := writeArchive(ctx, dir, location); err != nil {
		return err
	}
	ck.log.WithFields(logrus.Fields{"pod": c.pod.id, "container": c.id, "took": time.Since(began)}).Info("container checkpointed")
	return nil
}

// stage makes a directory for a dump, which remove removes.
func (ck *checkpoints) stage(parent, name string) (dir string, remove func(), err error) {
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", nil, fmt.Errorf("make directory for checkpoints: %w", err)
	}
	if dir, err = os.MkdirTemp(parent, "."+name+"-"); err != nil {
		return "", nil, fmt.Errorf("make directory for a checkpoint: %w", err)
	}
	return dir, func() {
		if err := os.RemoveAll(dir); err != nil {
			ck.log.WithFields(logrus.Fields{"op": "remove " + dir, "error": err}).Warn("checkpoint not removed")
		}
	}, nil
}

// checkpoints is where dumps are made, and where what is restored waits for its start.
func (c *Config) checkpoints() string { return filepath.Join(c.Root, "checkpoints") }

// dumpable says why a container can't be checkpointed, nil when it can.
func dumpable(c *container) error {
	if s := c.now().State; s != ContainerRunning {
		return stateError("container", c.id, s)
	}
	return restorable(c.pod.config, c.config)
}

// restorable says what of a configuration neither goes into a checkpoint nor comes out of one.
func restorable(p *spec.Pod, c *spec.Container) error {
	refuse := func(what string) error {
		return fmt.Errorf("checkpoint and restore of containers with %s: not possible: %w", what, ErrState)
	}
	switch {
	case p.RuntimeHandler != "" && p.RuntimeHandler != Handler:
		return refuse(fmt.Sprintf("runtime handler %q", p.RuntimeHandler))
	case p.Security.Namespaces.OwnUser() != nil:
		return refuse("a user namespace")
	case c.Security.Namespaces.PID != spec.NamespaceContainer:
		return refuse("a PID namespace that isn't their own")
	}
	return nil
}

// sweepCheckpoints removes dumps that a daemon didn't end, and what waits for containers that aren't there.
func (ck *checkpoints) sweepCheckpoints() {
	entries, err := os.ReadDir(ck.cfg.checkpoints())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		ck.log.WithFields(logrus.Fields{"op": "sweep", "error": err}).Warn("checkpoints not swept")
	}
	for _, e := range entries {
		if ck.index.exactly(e.Name()) != nil {
			continue
		}
		if err := os.RemoveAll(filepath.Join(ck.cfg.checkpoints(), e.Name())); err != nil {
			ck.log.WithFields(logrus.Fields{"op": "remove " + e.Name(), "error": err}).Warn("checkpoint not removed")
		}
	}
}

// CRIU dumps and restores processes (*criu.Tool).
type CRIU interface {
	Check(ctx context.Context) error
	Dump(ctx context.Context, d criu.Dump) error
	NewRestorer(ctx context.Context) (*criu.Restorer, error)
}
