package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"path"
	"sync"

	"github.com/berth-runtime/berth/oci/cgroup"
	"github.com/sirupsen/logrus"
)

// keeperCgroup is a keeper's own: so the daemon's limits aren't the keeper's, and
// systemd, ending the daemon's unit by its cgroup, doesn't end the keeper.
type keeperCgroup struct {
	tree    *cgroup.Tree
	systemd *cgroup.Manager // nil: the driver is cgroupfs
	path    string
	moving  sync.WaitGroup
}

// newKeeperCgroup names the group for the state directory, which a successor of
// the keeper shares and another daemon's keeper doesn't.
func newKeeperCgroup(tree *cgroup.Tree, systemd *cgroup.Manager, cfg config) (*keeperCgroup, error) {
	name := fnv.New32a()
	name.Write([]byte(path.Clean(cfg.State)))
	p, err := cfg.Sandbox.OwnCgroup("", fmt.Sprintf("keeper-%08x", name.Sum32()))
	return &keeperCgroup{tree: tree, systemd: systemd, path: p}, err
}

// enterSoon is enter, not waited for: on v1 the kernel lets a grace period pass
// before it moves the first process in a while (cgroup_threadgroup_rwsem), which
// measured 22 ms. Until then the keeper works in the daemon's group.
func (k *keeperCgroup) enterSoon(log logrus.FieldLogger) func(pid int) error {
	return func(pid int) error {
		k.moving.Go(func() { // remove waits for it
			if err := k.enter(pid); err != nil {
				log.WithFields(logrus.Fields{"pid": pid, "cgroup": k.path, "error": err}).Warn("keeper could not be put into its cgroup")
			}
		})
		return nil
	}
}

// enter makes the group, where it isn't there, and puts the process into it.
func (k *keeperCgroup) enter(pid int) error {
	if k.systemd != nil && !k.tree.Load(k.path).Exists() {
		_, err := k.systemd.Scope(k.tree, k.path, nil, pid)
		return err
	}
	group, err := k.tree.Create(k.path, nil)
	if err != nil {
		return err
	}
	return group.Adopt(pid)
}

// remove removes the group after the keeper's end, and the parents that only it
// needed. It may be called again.
func (k *keeperCgroup) remove(ctx context.Context) error {
	k.moving.Wait()
	if err := k.tree.Load(k.path).Delete(ctx); err != nil {
		return err
	}
	return k.tree.Prune(path.Dir(k.path))
}
