package oci

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const firstID = 65536 * 30

// TestRootNewUserNamespace: a container in a new user namespace has its own /dev, file systems and ids.
func TestRootNewUserNamespace(t *testing.T) {
	needRoot(t)
	dir := rootDir(t)
	for _, path := range []string{dir, dir + "/etc"} {
		if err := os.Chown(path, firstID, firstID); err != nil {
			t.Fatal(err)
		}
	}
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: firstID, Size: 65536}}
	s := testSpec()
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
	s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/deep/er/null", Type: "c", Major: 1, Minor: 3}, {Path: "/opt/null", Type: "c", Major: 1, Minor: 3}}
	r, err := runContainer(t, testNode(t), Container{Spec: s}, dir)
	if err != nil || r.status != 0 {
		t.Fatalf("%v, status %v %s", err, r.status, r.stderr)
	}
	if r.UID != 0 || r.GID != 0 || r.PID != 1 || r.Cwd != "/work/dir" {
		t.Errorf("uid %d gid %d pid %d cwd %s", r.UID, r.GID, r.PID, r.Cwd)
	}
	for name, ns := range r.Namespaces {
		if own, _ := os.Readlink("/proc/self/ns/" + name); ns == own {
			t.Errorf("%s namespace is the host's", name)
		}
	}
	if !slices.Contains(r.Dev, "deep d---------") || !slices.Contains(r.Dev, "null Dc---------") {
		t.Errorf("/dev has %q", r.Dev)
	}
	if !slices.ContainsFunc(r.Mounts, func(m string) bool { return strings.HasPrefix(m, "/opt/null tmpfs") }) {
		t.Errorf("no mount on /opt/null: %q", r.Mounts)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir+"/work/dir", &st); err != nil || st.Uid != firstID {
		t.Errorf("the working directory belongs to %d, %v", st.Uid, err)
	}
	s.Process.User.UID = 70000
	if _, err := runContainer(t, testNode(t), Container{Spec: s}, dir); err == nil || !strings.Contains(err.Error(), "user 70000: not mapped") {
		t.Errorf("a user who isn't mapped: %v", err)
	}
}

func TestLimitsInAUserNamespace(t *testing.T) {
	var own unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_CORE, nil, &own); err != nil {
		t.Fatal(err)
	}
	if own.Max == unix.RLIM_INFINITY {
		own.Max = 1 << 30
		if err := unix.Prlimit(0, unix.RLIMIT_CORE, &unix.Rlimit{Cur: 0, Max: own.Max}, nil); err != nil {
			t.Fatal(err)
		}
	}
	warned := 0
	n := &Node{caps: map[string]bool{"CAP_SYS_RESOURCE": true}, warned: map[string]bool{}, warn: func(string) { warned++ }}
	score := -500
	p := &specs.Process{OOMScoreAdj: &score, Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: own.Max + 1, Hard: own.Max + 2}}}
	if got := n.clamp(p, false).Rlimits[0]; got.Hard != own.Max+2 || got.Soft != own.Max+1 {
		t.Errorf("with the right to raise it: %v", got)
	}
	in := n.clamp(p, true)
	if got := in.Rlimits[0]; got.Hard != own.Max || got.Soft != own.Max || warned != 1 {
		t.Errorf("in a user namespace: %v, %d warnings", got, warned)
	}
	if *in.OOMScoreAdj != score {
		t.Errorf("oom_score_adj %d, which is set before", *in.OOMScoreAdj)
	}
}
