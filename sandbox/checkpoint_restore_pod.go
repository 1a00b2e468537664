package sandbox

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	metadata "github.com/checkpoint-restore/checkpointctl/lib"
	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// restores are pods that come from checkpoints.
type restores struct {
	*base
	pods       *pods
	containers *containers
}

// RestoredContainer is a container that RestorePod made.
type RestoredContainer struct{ Name, ID string }

// RestorePod sets a pod up and creates containers in it whose starts restore what CheckpointPod wrote to dir, which stays as it is. The
// configurations are by name those of the checkpoint's containers, and what they say of processes must be what those are: spec.ErrInvalid
// or ErrState otherwise. ErrExists: there is a pod of that identity. After an error nothing is left of it; a call joins one
// with the same identity that is under way.
func (rs *restores) RestorePod(ctx context.Context, dir string, config *spec.Pod, containers []*spec.Container) (string, []RestoredContainer, error) {
	archives, err := rs.check(dir, config, containers)
	if err != nil {
		return "", nil, err
	}
	key := fmt.Sprintf("restore pod %#v from %s", config.Metadata, dir)
	id, err := rs.tasks.toTheEnd(ctx, key, 0, func(ctx context.Context) (string, error) {
		return rs.restorePod(ctx, config, containers, archives)
	})
	if err != nil {
		return "", nil, fmt.Errorf("restore pod %s/%s: %w", config.Metadata.Namespace, config.Metadata.Name, err)
	}
	p, err := rs.index.pod(id)
	if err != nil {
		return "", nil, err
	}
	var restored []RestoredContainer
	for _, c := range containers {
		if made := p.named(c.Metadata); made != nil {
			restored = append(restored, RestoredContainer{c.Metadata.Name, made.id})
		}
	}
	return id, restored, nil
}

// check looks whether checkpoint and configurations fit, before anything is made, and returns the archives of the containers.
func (rs *restores) check(dir string, config *spec.Pod, containers []*spec.Container) ([]string, error) {
	wrong := func(rule string) error {
		return &spec.FieldError{Field: "checkpoint_path", Value: dir, Rule: rule}
	}
	if !filepath.IsAbs(dir) {
		return nil, wrong("must be an absolute path")
	}
	options, _, err := metadata.ReadCheckpointPodOptions(dir)
	if err != nil {
		return nil, wrong("must have a pod's checkpoint: " + err.Error())
	}
	if options.Version != podFormat {
		return nil, wrong(fmt.Sprintf("has format %d, and this runtime knows %d", options.Version, podFormat))
	}
	if err := rs.pods.checkPod(config); err != nil {
		return nil, err
	}
	archives := make([]string, len(containers))
	seen := map[string]bool{}
	for i, c := range containers {
		name := c.Metadata.Name
		field := func(name, value, rule string) error {
			return &spec.FieldError{Field: fmt.Sprintf("container_configs[%d].%s", i, name), Value: value, Rule: rule}
		}
		file, ok := options.Containers[name]
		switch {
		case seen[name]:
			return nil, field("metadata.name", name, "is named a second time")
		case !ok:
			return nil, field("metadata.name", name, "is no container of the checkpoint")
		case file == "" || filepath.Base(file) != file:
			return nil, wrong(fmt.Sprintf("names an archive %q", file))
		}
		seen[name] = true
		if err := c.Validate(config); err != nil {
			return nil, err
		}
		if isArchive(c.Image.Image) {
			return nil, field("image.image", c.Image.Image, "must be the image that the container was made from")
		}
		archives[i] = filepath.Join(dir, file+".tar")
	}
	for name := range options.Containers {
		if !seen[name] {
			return nil, &spec.FieldError{Field: "container_configs", Value: name, Rule: "is in the checkpoint, and has no configuration"}
		}
	}
	return archives, nil
}

func (rs *restores) restorePod(ctx context.Context, config *spec.Pod, containers []*spec.Container, archives []string) (string, error) {
	if err := rs.parts.CRIU.Check(ctx); err != nil {
		return "", err
	}
	if p := rs.index.ready(config.Metadata); p != nil {
		return "", fmt.Errorf("attempt %d is pod %s: %w", config.Metadata.Attempt, p.id, ErrExists)
	}
	// Its time is its own: given up amid its set-up, the pod would come up with nobody to remove it.
	id, err := rs.pods.RunPod(context.WithoutCancel(ctx), config)
	if err != nil {
		return "", err
	}
	p, err := rs.index.pod(id)
	if err != nil {
		return "", err
	}
	if p.config != config { // a RunPod was under way, and joined; what comes of it isn't this call's to remove
		return "", fmt.Errorf("attempt %d is pod %s: %w", config.Metadata.Attempt, id, ErrExists)
	}
	for i, c := range containers {
		if err = ctx.Err(); err == nil {
			_, err = rs.containers.createFrom(context.WithoutCancel(ctx), id, c, archives[i])
		}
		if err != nil {
			break
		}
	}
	if err == nil {
		rs.log.WithFields(logrus.Fields{"pod": id}).Info("pod made from a checkpoint")
		return id, nil
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopPodTime)
	defer cancel()
	return "", errors.Join(err, rs.pods.RemovePod(undo, id))
}
