package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/images"
	"github.com/berth-runtime/berth/test/leak"
)

// finish removes the pods, stops the daemon and checks that nothing is left.
func (d *Daemon) finish() {
	if d.process == nil { // it never came to that
		d.sweep()
		return
	}
	if d.Ended() {
		d.launch() // after a test that ended it: a daemon cleans up what it finds
		if err := d.answers(); err != nil {
			d.t.Error(err)
		}
	}
	d.removePods()
	if !d.Ended() {
		if err := d.process.Process.Signal(unix.SIGTERM); err != nil {
			d.t.Errorf("stop daemon: %v", err)
		}
		select {
		case <-d.ended:
		case <-time.After(patience):
			d.t.Errorf("daemon did not end %v after SIGTERM", patience)
		}
	}
	if d.conn != nil {
		d.conn.Close()
	}
	d.removeFurniture()
	d.removeSlice()
	d.checkLeaks()
	if d.t.Failed() {
		d.keepLog()
	}
	d.sweep()
}

// removePods asks the daemon to remove all of its pods.
func (d *Daemon) removePods() {
	if d.Runtime == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	list, err := d.Runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		d.t.Errorf("list pods at the end: %v", err)
		return
	}
	for _, p := range list.Items {
		if _, err := d.Runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.Id}); err != nil {
			d.t.Errorf("stop pod %s at the end: %v", p.Metadata.GetName(), err)
		}
		if _, err := d.Runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.Id}); err != nil {
			d.t.Errorf("remove pod %s at the end: %v", p.Metadata.GetName(), err)
		}
	}
}

// removeFurniture takes away what a node keeps as long as it is up, pods or not:
// the bridge.
func (d *Daemon) removeFurniture() {
	if bridge, err := netlink.LinkByName(d.Bridge); err == nil {
		if err := netlink.LinkDel(bridge); err != nil {
			d.t.Errorf("remove bridge: %v", err)
		}
	}
}

// checkLeaks fails the test for everything that is new since Start.
func (d *Daemon) checkLeaks() {
	ctx, cancel := context.WithTimeout(context.Background(), d.settle)
	defer cancel()
	left, err := leak.Settle(ctx, d.before, d.blamed)
	if err != nil {
		d.t.Error(err)
	}
	for _, l := range left {
		d.t.Errorf("left behind: %v", l)
	}
}

// blamed keeps what the daemon is to blame for. Processes come and go on any
// machine, so those must bear a name of it, as everything must on a shared one and
// beside another daemon.
func (d *Daemon) blamed(leaks []leak.Leak) []leak.Leak {
	marks := d.marks()
	var out []leak.Leak
	for _, l := range leaks {
		named := bears(l, marks)
		switch {
		case l.Kind == "file" && (l.Name == d.Dir || strings.HasPrefix(l.Name, d.Dir+"/")):
			// finish removes it as a whole
		case l.Kind == "file" && (l.Name == "/run/netns" || l.Name == "/run/systemd/transient"):
			// made by whoever is first to pin a namespace (ip-netns(8)), or to start a transient unit, and kept
		case l.Kind == "process", l.Kind == "namespace", d.beside != nil, os.Getenv("BERTH_TEST_SHARED") != "":
			if named {
				out = append(out, l)
			}
		default:
			out = append(out, l)
		}
	}
	return out
}

func bears(l leak.Leak, marks []string) bool {
	return len(leak.Marked([]leak.Leak{l}, marks)) == 1
}

// marks are the names that only this daemon's things have.
func (d *Daemon) marks() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	marks := []string{d.Name}
	for id := range d.ids {
		marks = append(marks, id)
	}
	return marks
}

// keepLog keeps the daemon's log, and shows its end.
func (d *Daemon) keepLog() {
	cache, err := images.CacheDir()
	if err != nil {
		d.t.Error(err)
		return
	}
	text, err := os.ReadFile(d.LogFile)
	if err != nil {
		d.t.Errorf("read daemon's log: %v", err)
		return
	}
	path := filepath.Join(cache, "test-logs", strings.ReplaceAll(d.t.Name(), "/", "-")+".log")
	err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, text, 0o644))
	d.t.Logf("the daemon's log is %s (%v); it ends:\n%s", path, err, d.logTail())
}

func (d *Daemon) logTail() string {
	text, err := os.ReadFile(d.LogFile)
	if err != nil {
		return fmt.Sprintf("(no log: %v)", err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// sweep removes all that is left, so that a test which leaks fails alone. It stops
// at nothing; the leak check has spoken.
func (d *Daemon) sweep() {
	defer func() {
		if err := errors.Join(os.RemoveAll(d.Dir), os.RemoveAll(d.State)); err != nil {
			d.t.Errorf("remove directory: %v", err)
		}
	}()
	after, err := leak.Take()
	if err != nil {
		d.t.Errorf("sweep: %v", err)
		return
	}
	left := leak.Marked(after.Since(d.before), d.marks())
	for _, l := range left {
		if number, _, _ := strings.Cut(l.Name, " "); l.Kind == "process" {
			if pid, err := strconv.Atoi(number); err == nil && pid != os.Getpid() {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
	}
	for _, l := range left {
		_, name, _ := strings.Cut(l.Name, " ")
		switch l.Kind {
		case "mount":
			_ = unix.Unmount(name, unix.MNT_DETACH)
		case "link":
			if link, err := netlink.LinkByName(name); err == nil {
				_ = netlink.LinkDel(link)
			}
		}
	}
	for i := len(left) - 1; i >= 0; i-- { // sorted: what is inside comes after
		switch l := left[i]; l.Kind {
		case "cgroup":
			for try := 0; try < 50 && unix.Rmdir(l.Name) == unix.EBUSY; try++ {
				time.Sleep(10 * time.Millisecond)
			}
		case "file":
			_ = os.RemoveAll(l.Name)
		}
	}
}
