package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path"
	"strconv"
	"sync"

	"github.com/berth-runtime/berth/oci/cgroup"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// keeperCgroup is a keeper's own: so the daemon's limits aren't the keeper's, and
// systemd, ending the daemon's unit by its cgroup, doesn't end the keeper.
type keeperCgroup struct {
	tree   *cgroup.Tree
	path   string
	moving sync.WaitGroup
}

// newKeeperCgroup names the group for the state directory, which a successor of
// the keeper shares and another daemon's keeper doesn't.
func newKeeperCgroup(tree *cgroup.Tree, cfg config) *keeperCgroup {
	name := fnv.New32a()
	name.Write([]byte(path.Clean(cfg.State)))
	return &keeperCgroup{tree: tree, path: path.Join(cfg.Sandbox.CgroupParent, fmt.Sprintf("keeper-%08x", name.Sum32()))}
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
	group, err := k.tree.Create(k.path, nil)
	if err != nil {
		return err
	}
	procs, dir, err := group.Enter()
	if err != nil {
		return fmt.Errorf("open cgroup: %w", err)
	}
	if dir != nil {
		defer dir.Close()
		f, err := openProcs(dir)
		if err != nil {
			return err
		}
		procs = append(procs, f)
	}
	var errs []error
	for _, f := range procs {
		if _, err := f.WriteString(strconv.Itoa(pid)); err != nil {
			errs = append(errs, fmt.Errorf("enter cgroup: %w", err))
		}
		f.Close()
	}
	return errors.Join(errs...)
}

func openProcs(dir *os.File) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), "cgroup.procs", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open cgroup.procs: %w", err)
	}
	return os.NewFile(uintptr(fd), "cgroup.procs"), nil
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
