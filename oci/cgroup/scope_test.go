package cgroup

import (
	"errors"
	"os"
	"os/exec"
	"path"
	"strings"
	"testing"
	"time"
)

// scopes connects to systemd and returns how scopes are made at a path of a slice of the test's own, each with a process.
func scopes(t *testing.T) (m *Manager, tree *Tree, p string, begin func() (*Group, *exec.Cmd)) {
	t.Helper()
	tree, parent, _ := realTree(t)
	var err error
	m, err = ConnectSystemd(t.Context())
	if errors.Is(err, ErrNoSystemd) {
		t.Skip("systemd is not PID 1 here")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	slice := strings.ReplaceAll(path.Base(parent), "-", "") + ".slice"
	t.Cleanup(func() { systemctl(t, "stop", slice) })
	if p, err = ContainerPath(Systemd, "/"+slice, "x"); err != nil {
		t.Fatal(err)
	}
	return m, tree, p, func() (*Group, *exec.Cmd) {
		holder := exec.Command("sleep", "1000")
		if err := holder.Start(); err != nil {
			t.Fatal(err)
		}
		g, err := m.Scope(tree, p, typical(), holder.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		return g, holder
	}
}

// TestRootScopeAgain makes one as soon as the last of its name has gone, which systemd doesn't know by then.
func TestRootScopeAgain(t *testing.T) {
	m, _, p, begin := scopes(t)
	for range 5 {
		g, holder := begin()
		if err := errors.Join(g.Kill(within(t, 5*time.Second)), g.Delete(within(t, 20*time.Second))); err != nil {
			t.Fatal(err)
		}
		_ = holder.Wait()
	}
	for range 2 {
		if err := m.Gone(p); err != nil {
			t.Error(err)
		}
	}
	if err := exec.Command("systemctl", "is-active", "--quiet", path.Base(p)).Run(); err == nil {
		t.Error("systemd still has the scope")
	}
}

func TestRootScopeInner(t *testing.T) {
	_, tree, p, begin := scopes(t)
	g, holder := begin()
	defer func() {
		if err := errors.Join(g.Kill(within(t, 5*time.Second)), g.Delete(within(t, 20*time.Second))); err != nil {
			t.Error(err)
		}
		_ = holder.Wait()
	}()
	for range 2 {
		inner, err := g.Inner()
		if err != nil {
			t.Fatal(err)
		}
		if tree.Mode() == V1 {
			if inner != p {
				t.Errorf("on v1 it is %s", inner)
			}
			return
		}
		if inner != p+"/container" || tree.Load(inner).Exists() {
			t.Errorf("it is %s", inner)
		}
	}
	for dir, want := range map[string]string{p: "", p + "/holder": itoa(int64(holder.Process.Pid)) + "\n"} {
		if text, err := os.ReadFile(tree.unified + dir + "/cgroup.procs"); err != nil || string(text) != want {
			t.Errorf("processes of %s: %q, %v", dir, text, err)
		}
	}
	if _, err := tree.Create(p+"/container", typical()); err != nil { // with all controllers
		t.Error(err)
	}
}
