package main

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
)

func TestCheckNode(t *testing.T) {
	probe := func(err error) func() (string, error) { return func() (string, error) { return "found", err } }
	missing := errors.New("missing")
	var out bytes.Buffer
	err := checkNode(&out, []feature{
		{"a", true, "no a", probe(nil)},
		{"b", true, "no b", probe(missing)},
		{"c", false, "no c", probe(missing)},
		{"d", true, "no d", probe(missing)},
	})
	if !errors.Is(err, errLacking) || !strings.HasSuffix(err.Error(), ": b, d") {
		t.Errorf("%v, want errLacking that names b and d", err)
	}
	want := "has    a  found\nLACKS  b  missing: no b\nlacks  c  missing: no c\nLACKS  d  missing: no d\n\n"
	if out.String() != want {
		t.Errorf("report\n%swant\n%s", out.String(), want)
	}
	out.Reset()
	if err := checkNode(&out, []feature{{"c", false, "no c", probe(missing)}}); err != nil || !strings.HasSuffix(out.String(), "\n\nThis node can run berth; it does without c.\n") {
		t.Errorf("only something optional lacks: %v, %q", err, out.String())
	}
	out.Reset()
	if err := checkNode(&out, []feature{{"a", true, "no a", probe(nil)}}); err != nil || !strings.HasSuffix(out.String(), "\n\nThis node can run berth, with all that it can do.\n") {
		t.Errorf("nothing lacks: %v, %q", err, out.String())
	}
}

func TestParseRelease(t *testing.T) {
	for in, want := range map[string][2]int{
		"6.1.0-18-amd64": {6, 1}, "5.15": {5, 15}, "6.18.44-fc-v657": {6, 18}, "5.4-rc1": {5, 4},
	} {
		major, minor, err := parseRelease(in)
		if err != nil || [2]int{major, minor} != want {
			t.Errorf("%s: %d.%d, %v", in, major, minor, err)
		}
	}
	for _, in := range []string{"", "6", "x.y", "6.", ".1"} {
		if _, _, err := parseRelease(in); err == nil {
			t.Errorf("%q was taken", in)
		}
	}
}

func TestKernel(t *testing.T) {
	if _, err := kernel(2, 6)(); err != nil {
		t.Errorf("Linux 2.6 or later: %v", err)
	}
	if _, err := kernel(99, 0)(); err == nil {
		t.Error("this is Linux 99")
	}
}

// Every probe that a machine for these tests must pass does, and leaves nothing
// open or mounted behind.
func TestRootProbes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: the probes mount")
	}
	before := openFiles(t)
	for _, f := range nodeFeatures() {
		if found, err := f.probe(); err != nil && f.required {
			t.Errorf("%s: %v", f.name, err)
		} else {
			t.Logf("%s: %q, %v", f.name, found, err)
		}
	}
	if after := openFiles(t); after > before {
		t.Errorf("%d files open, %d before", after, before)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
