package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/imagestore"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// createTime and startTime bound the two halves of bringing a container up.
const (
	createTime = 90 * time.Second
	startTime  = 90 * time.Second
)

// CreateContainer makes a container in a pod that is ready (ErrState otherwise)
// and returns its id. It needs a valid configuration (spec.ErrInvalid), which nobody
// changes afterwards, and an image that is there (imagestore.ErrNotFound). It
// leaves nothing behind when it fails.
//
// It may be called again: a call with the same pod, name and attempt joins the
// work under way, or gets the id of the container that came of it. ErrExists: that
// container has another configuration, or was started.
//
// An image that is an absolute path is the archive of a checkpoint (spec.ErrInvalid when it isn't one): then the start restores
// the processes in it. The image that they had must be there, and the configuration what they had of mounts and namespaces (ErrState).
func (cs *containers) CreateContainer(ctx context.Context, podID string, config *spec.Container) (string, error) {
	archive := ""
	if isArchive(config.Image.Image) {
		archive = config.Image.Image
	}
	return cs.createFrom(ctx, podID, config, archive)
}

// createFrom is CreateContainer with the archive of a checkpoint, "" for none.
func (cs *containers) createFrom(ctx context.Context, podID string, config *spec.Container, archive string) (string, error) {
	p, err := cs.index.pod(podID)
	if err != nil {
		return "", err
	}
	if err := config.Validate(p.config); err != nil {
		return "", err
	}
	key := fmt.Sprintf("create container %s %#v", p.id, config.Metadata)
	id, err := cs.tasks.do(ctx, key, createTime, func(ctx context.Context) (string, error) {
		ctx, stop := with(ctx, p.life)
		defer stop()
		leave, err := p.take(ctx)
		if err != nil {
			return "", err
		}
		defer leave()
		if c := p.named(config.Metadata); c != nil {
			return c.id, nil
		}
		return cs.createContainer(ctx, p, config, archive)
	})
	if err == nil {
		err = cs.sameAs(id, config)
	}
	if err != nil {
		return "", fmt.Errorf("create container %s: %w", config.Metadata.Name, err)
	}
	return id, nil
}

// sameAs refuses a configuration that is another than that of the container which has its name and attempt, and
// any when that was started: who repeats a creation doesn't know its id yet.
func (cs *containers) sameAs(id string, config *spec.Container) error {
	c := cs.index.exactly(id)
	if c == nil || c.config == config {
		return nil
	}
	if other := c.config.Difference(config); len(other) > 0 {
		return fmt.Errorf("attempt %d is container %s, whose %s differ: %w", config.Metadata.Attempt, id, strings.Join(other, ", "), ErrExists)
	}
	if s := c.now().State; s != ContainerCreated {
		return fmt.Errorf("attempt %d is container %s, which is %s: %w", config.Metadata.Attempt, id, s, ErrExists)
	}
	return nil
}

// containerCreate is the creation of one container.
type containerCreate struct {
	containers *containers
	c          *container
	archive    string      // of the checkpoint that it comes from; "": none
	dumped     *specs.Spec // what the checkpoint says that it was
	tx         transaction
}

func (cs *containers) createContainer(ctx context.Context, p *pod, config *spec.Container, archive string) (string, error) {
	start := time.Now()
	if s := p.state(); s != PodReady {
		return "", stateError("pod", p.id, s)
	}
	image, dumped, err := cs.origin(ctx, p, config, archive)
	if err != nil {
		return "", err
	}
	rec, err := cs.newContainerRecord(p, config, image, start)
	if err != nil {
		return "", err
	}
	r := &containerCreate{containers: cs, c: newContainer(p, *rec), archive: archive, dumped: dumped, tx: transaction{watch: startWatch()}}
	r.c.created = r.tx.watch
	cs.addContainer(r.c)
	if err := r.up(ctx); err != nil {
		return "", errors.Join(err, r.down(ctx))
	}
	cs.stocks.busy()
	cs.log.WithFields(logrus.Fields{"pod": p.id, "container": rec.ID, "image": rec.Image.Name, "took": time.Since(start)}).Info("container created")
	return rec.ID, nil
}

// up does the steps, and commits.
func (r *containerCreate) up(ctx context.Context) error {
	if err := r.tx.sequence(ctx, r.intend(), r.prepareRestore(), r.makeHostPaths()); err != nil {
		return err
	}
	leave, any := r.containers.plugins.enter()
	defer leave()
	if any {
		return r.adjusted(ctx)
	}
	// A cgroup on v1 takes as long as the root: the start has no time for it.
	if err := r.tx.parallel(ctx, []step{r.prepareRoot()}, []step{r.makeCgroup()}); err != nil {
		return err
	}
	return r.tx.sequence(ctx, r.prepareImageVolumes(), r.relabel(), r.build(), r.commit())
}

// adjusted is up where there are plugins: they see the whole Spec, and may change limits before the cgroup is made.
// The caller has entered.
func (r *containerCreate) adjusted(ctx context.Context) error {
	err := r.tx.sequence(ctx, r.prepareRoot(), r.prepareImageVolumes(), r.relabel(), r.build(), r.adjust(), r.build(), r.makeCgroup(), r.commit())
	if err != nil {
		return err
	}
	if err := r.containers.plugins.tell(ctx, PluginCreated, r.c); err != nil {
		r.containers.log.WithFields(logrus.Fields{"container": r.c.id, "op": "tell plugins", "error": err}).Warn("plugin failed")
	}
	return nil
}

// adjust asks the plugins.
func (r *containerCreate) adjust() step {
	return step{
		name: "ask plugins",
		do:   func(ctx context.Context) error { return r.containers.plugins.adjust(ctx, r.c, r.c.spec) },
		undo: func(ctx context.Context) error {
			r.containers.plugins.over(ctx, PluginRemove, r.c)
			return nil
		},
	}
}

// origin is the image that a container is made from, and of one that comes from a checkpoint the Spec that it had.
func (cs *containers) origin(ctx context.Context, p *pod, config *spec.Container, archive string) (*imagestore.Image, *specs.Spec, error) {
	if archive == "" {
		image, err := cs.parts.Images.Image(config.Image.Image)
		if err != nil {
			return nil, nil, fmt.Errorf("image %q: %w", config.Image.Image, err)
		}
		return image, nil, nil
	}
	if err := restorable(p.config, config); err != nil {
		return nil, nil, err
	}
	info, err := readArchive(archive)
	if err != nil {
		return nil, nil, err
	}
	if err := cs.parts.CRIU.Check(ctx); err != nil {
		return nil, nil, err
	}
	if _, err := cs.host.cgroup("/").Dir(); err != nil { // which the restored process sees mounted
		return nil, nil, fmt.Errorf("restore: %w: %w", err, ErrState)
	}
	image, err := info.image(cs.parts.Images)
	if err == nil && archive != config.Image.Image {
		var named *imagestore.Image
		if named, err = cs.parts.Images.Image(config.Image.Image); err == nil && named.ID != image.ID {
			err = fmt.Errorf("image %q is %s, and that of the checkpoint %s: %w", config.Image.Image, named.ID, image.ID, ErrState)
		}
	}
	return image, &info.spec, err
}

// newContainerRecord is the record that says what is about to be made.
func (cs *containers) newContainerRecord(p *pod, config *spec.Container, image *imagestore.Image, now time.Time) (*containerRecord, error) {
	if err := cs.checkHost(p, config); err != nil {
		return nil, err
	}
	edits, err := cs.builder.cdiEdits(p, config)
	if err != nil {
		return nil, err
	}
	id := newID()
	group, err := cs.cfg.cgroup(p.config, id)
	if err != nil {
		return nil, err
	}
	rec := &containerRecord{
		Version: recordVersion, ID: id, PodID: p.id, Boot: cs.boot, State: containerCreating, Config: config,
		Image:      newImageRecord(image, config.Image),
		Edits:      edits,
		StopSignal: spec.StopSignal(config.StopSignal, image.Config.Config.StopSignal),
		Cgroup:     group, CreatedAt: now,
	}
	if p.config.LogDirectory != "" && config.LogPath != "" {
		rec.LogPath = filepath.Join(p.config.LogDirectory, config.LogPath)
	}
	return rec, nil
}

// newImageRecord chooses the names by which clients see the image: the one they
// asked for, if the image has it.
func newImageRecord(image *imagestore.Image, asked spec.ImageRef) imageRecord {
	rec := imageRecord{ID: image.ID, Config: image.Config.Config}
	for _, want := range []string{asked.UserSpecifiedImage, asked.Image} {
		if rec.Name == "" && slices.Contains(image.Tags, want) {
			rec.Name = want
		}
	}
	if rec.Name == "" && len(image.Tags) > 0 {
		rec.Name = image.Tags[0]
	}
	repository, _, _ := strings.Cut(rec.Name, ":")
	for _, d := range image.Digests {
		if rec.Digest == "" || strings.HasPrefix(d, repository+"@") {
			rec.Digest = d
		}
	}
	return rec
}

// checkHost looks for what the configuration takes from the host and from the
// pod, so that a mistake is told now and not at the start.
func (cs *containers) checkHost(p *pod, config *spec.Container) error {
	for i, v := range config.Mounts {
		if v.Image != nil {
			if _, err := cs.parts.Images.Image(v.Image.Image); err != nil {
				return fmt.Errorf("image volume %q: %w", v.Image.Image, err)
			}
			continue
		}
		if _, err := os.Stat(v.HostPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return hostPathError(i, v.HostPath, "can't be used: "+err.Error())
		}
	}
	if n := config.Security.Namespaces; n.PID == spec.NamespaceTarget {
		if t := cs.index.exactly(n.TargetID); t == nil || t.pod != p || !t.visible() {
			return &spec.FieldError{Field: "linux.security_context.namespace_options.target_id", Value: n.TargetID, Rule: "must be a container of the pod"}
		}
	}
	return nil
}

func (b *base) addContainer(c *container) {
	c.pod.mu.Lock()
	c.pod.containers[c.id] = c
	c.pod.mu.Unlock()
	b.index.addContainer(c)
}

func (b *base) dropContainer(c *container) {
	b.index.removeContainer(c)
	c.pod.mu.Lock()
	delete(c.pod.containers, c.id)
	c.pod.mu.Unlock()
}

// down undoes what was done. What can't be undone stays with the pod, whose removal frees it, as does the next
// start of the daemon; clients know nothing of the container.
func (r *containerCreate) down(ctx context.Context) error {
	err := r.tx.rollback(ctx)
	if err == nil {
		err = r.containers.records.removeContainer(r.c.pod.id, r.c.id)
	}
	if err != nil {
		return err
	}
	r.containers.dropContainer(r.c)
	return r.containers.moveContainer(r.c, containerAbort, nil)
}

func (r *containerCreate) intend() step {
	return step{name: "record the container", do: func(context.Context) error {
		return r.containers.records.putContainer(&r.c.record)
	}}
}

// prepareRoot makes the writable layer, mounts the root once to read who the
// container runs as, and keeps the mount for the start.
func (r *containerCreate) prepareRoot() step {
	return step{
		name: "prepare the root file system",
		do: func(ctx context.Context) (err error) {
			if err := r.containers.roots.prepareRoot(ctx, r.c); err != nil {
				return err
			}
			if err := r.containers.applyCheckpoint(ctx, r.c); err != nil {
				return err
			}
			if r.c.root, err = r.containers.roots.mountRoot(r.c); err != nil {
				return err
			}
			if err := r.containers.roots.copyVolumes(r.c); err != nil {
				return err
			}
			user, err := resolveUser(r.c.root, r.c.config, r.c.record.Image.Config.User)
			if err != nil {
				return err
			}
			r.c.record.User = user
			return checkMapped(r.c.pod.config, user)
		},
		undo: func(context.Context) error {
			return errors.Join(r.c.closeRoot(), r.containers.parts.Images.RemoveSnapshot(r.c.id))
		},
	}
}

// makeCgroup makes the cgroup. Its limits are known before it is known who the
// container runs as.
func (r *containerCreate) makeCgroup() step {
	rec := r.c.record // as it is now: the root's step adds the user
	return step{
		name: "make the cgroup",
		do: func(context.Context) error {
			s := r.c.spec // there already if plugins were asked
			if s == nil {
				var err error
				rec.User = &spec.User{}
				if s, err = r.containers.builder.buildSpec(r.c.pod, &rec); err != nil {
					return err
				}
			}
			var err error
			r.c.group, err = r.containers.host.createCgroup(rec.Cgroup, s.Linux.Resources)
			return err
		},
		undo: func(ctx context.Context) error { return r.containers.freeCgroup(ctx, r.c.now().Cgroup) },
	}
}

// closeRoot lets go of the mount that was kept for the start.
func (c *container) closeRoot() error {
	if c.root == nil {
		return nil
	}
	err := c.root.Close()
	c.root = nil
	return err
}

func (r *containerCreate) relabel() step {
	return step{name: "relabel volumes", do: func(context.Context) error { return r.containers.relabel(r.c) }}
}

// build makes the Spec, which shows whether the configuration makes sense.
func (r *containerCreate) build() step {
	return step{name: "build the spec", do: func(context.Context) (err error) {
		r.c.spec, err = r.containers.builder.buildSpec(r.c.pod, &r.c.record)
		if s := r.c.config.Security.Seccomp; err == nil && s != nil && s.Kind == spec.ProfileLocalhost {
			r.c.record.Seccomp = r.c.spec.Linux.Seccomp
		}
		if err == nil && r.dumped != nil {
			err = r.restorable()
		}
		return err
	}}
}

func (r *containerCreate) commit() step {
	return step{name: "record the container", do: func(context.Context) error {
		return r.containers.moveContainer(r.c, containerCommit, nil)
	}}
}
