package rival

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// finish removes the pods, ends containerd and takes away all that it had.
func (c *Containerd) finish() {
	c.removePods()
	c.end()
	if err := errors.Join(c.endShims(), c.removeCgroups(), os.RemoveAll(c.Dir), os.RemoveAll(c.state)); err != nil {
		c.t.Errorf("clean up after containerd: %v", err)
	}
}

func (c *Containerd) removePods() {
	if c.conn == nil {
		return
	}
	defer c.conn.Close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.t.Context()), patience)
	defer cancel()
	list, err := c.Runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		c.t.Errorf("list containerd's pods at the end: %v", err)
		return
	}
	for _, p := range list.Items {
		_, stop := c.Runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.Id})
		_, remove := c.Runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.Id})
		if err := errors.Join(stop, remove); err != nil {
			c.t.Errorf("remove containerd's pod %s: %v", p.Metadata.GetName(), err)
		}
	}
}

// end stops the daemon, by force when it takes its time.
func (c *Containerd) end() {
	if c.ended == nil {
		return
	}
	for _, s := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		_ = c.process.Process.Signal(s) // it may have ended
		select {
		case <-c.ended:
			return
		case <-time.After(10 * time.Second):
		}
	}
}

// endShims ends those of pods that could not be removed: a shim has its socket's directory in its command line or environment.
func (c *Containerd) endShims() error {
	paths, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return err
	}
	for _, path := range paths {
		dir := filepath.Dir(path)
		comm, _ := os.ReadFile(filepath.Join(dir, "comm")) // processes come and go
		environ, _ := os.ReadFile(path)
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && strings.HasPrefix(string(comm), "containerd-shim") && strings.Contains(string(environ), c.state+"/") {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	return nil
}

// removeCgroups removes the pods' parent in every hierarchy, and what is below it.
func (c *Containerd) removeCgroups() error {
	places, err := filepath.Glob("/sys/fs/cgroup/*" + c.CgroupParent)
	if err != nil {
		return err
	}
	for _, place := range append(places, "/sys/fs/cgroup"+c.CgroupParent) {
		var groups []string
		err := filepath.WalkDir(place, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				groups = append(groups, path)
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, group := range slices.Backward(groups) {
			if err := unix.Rmdir(group); err != nil && !errors.Is(err, unix.ENOENT) {
				return &fs.PathError{Op: "rmdir", Path: group, Err: err}
			}
		}
	}
	return nil
}
