package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// down removes the pods through the daemon, ends that, and takes away what is left
// of the demo: directories, the bridge, the cgroup.
func down(ctx context.Context, p place) error {
	if _, err := os.Stat(p.config()); errors.Is(err, os.ErrNotExist) {
		fmt.Println("There is no demo to clean up.")
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if p.running() == 0 { // killed, perhaps: a new daemon finds what it left
		step("Starting berth once more, to clean up")
		if err := errors.Join(p.lay(), p.start(ctx)); err != nil {
			return err
		}
	}
	step("Removing the demo's pod and image")
	if _, err := p.crictl(ctx, "rmp", "--all", "--force"); err != nil {
		return err
	}
	if _, err := p.crictl(ctx, "rmi", "--all"); err != nil {
		return err
	}
	step("Stopping berth and removing its directories and its bridge")
	if err := p.stop(ctx); err != nil {
		return err
	}
	if err := errors.Join(removeBridge(), os.RemoveAll(p.root), os.RemoveAll(p.state), removeCgroups()); err != nil {
		return err
	}
	fmt.Println("Nothing is left.")
	return nil
}

func removeBridge() error {
	link, err := netlink.LinkByName(bridge)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find bridge: %w", err)
	}
	if err := netlink.LinkDel(link); err != nil {
		return fmt.Errorf("remove bridge: %w", err)
	}
	return nil
}

// removeCgroups removes the demo's empty parent cgroup from every hierarchy, should
// it still be there.
func removeCgroups() error {
	unified, err := filepath.Glob("/sys/fs/cgroup" + cgroupParent)
	if err != nil {
		return err
	}
	others, err := filepath.Glob("/sys/fs/cgroup/*" + cgroupParent)
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range append(unified, others...) {
		if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("remove cgroup %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}
