package main

import (
	"regexp"
	"strings"
	"testing"
)

const events = `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"quiet\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestRootB","Output":"=== RUN   TestRootB\n"}
{"Action":"output","Package":"p","Test":"TestRootB","Output":"    b_test.go:9: needs root: it mounts\n"}
{"Action":"output","Package":"p","Test":"TestRootB","Output":"--- SKIP: TestRootB (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestRootB"}
{"Action":"output","Package":"p","Test":"TestC","Output":"    c_test.go:1: this is wrong\n"}
{"Action":"fail","Package":"p","Test":"TestC"}
{"Action":"output","Package":"p","Test":"TestD","Output":"    d_test.go:9: this kernel needs rootkits\n"}
{"Action":"skip","Package":"p","Test":"TestD"}
{"Action":"output","Package":"p","Test":"TestF","Output":"    f_test.go:12: needs mkfs.ext4: no such file\n"}
{"Action":"skip","Package":"p","Test":"TestF"}
{"Action":"output","Package":"p","Test":"TestE","Output":"panic: oh\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
{"Action":"fail","Package":"p"}
go: something else
`

func TestReport(t *testing.T) {
	var out strings.Builder
	r := newReport(&out)
	if err := r.read(strings.NewReader(events)); err != nil {
		t.Fatal(err)
	}
	if n := r.finish(skipRule{noskip: true}); n != 2 {
		t.Errorf("%d tests wanted what they could have, not 2", n)
	}
	for _, want := range []string{
		"this is wrong", "FAIL\tp\t0.1s", "go: something else", "did not end: p.TestE", "panic: oh",
		"skipped: p.TestRootB: b_test.go:9: needs root: it mounts", "failed: p.TestC", "1 passed, 2 failed, 3 skipped",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "quiet") {
		t.Error("the output of a test that passed is shown")
	}
}

func TestSkipRule(t *testing.T) {
	root, other := skip{"p.TestRootB", "b_test.go:9: needs root: it mounts"}, skip{"p.TestD", "this kernel has no rootkits"}
	for _, c := range []struct {
		rule        skipRule
		root, other bool
	}{
		{skipRule{}, false, false},
		{skipRule{noskip: true}, true, false},
		{skipRule{may: regexp.MustCompile("TestD$")}, true, false},
		{skipRule{may: regexp.MustCompile("^none$")}, true, true},
		{skipRule{noskip: true, may: regexp.MustCompile(".")}, true, false},
	} {
		if c.rule.broken(root) != c.root || c.rule.broken(other) != c.other {
			t.Errorf("%+v: %v, %v", c.rule, c.rule.broken(root), c.rule.broken(other))
		}
	}
}

func TestMayRunAgain(t *testing.T) {
	const failed = `{"Action":"fail","Package":"p","Test":"TestA/sub"}
{"Action":"fail","Package":"p","Test":"TestA"}
`
	for name, c := range map[string]struct {
		events string
		want   bool
	}{
		"nothing failed":        {`{"Action":"pass","Package":"p","Test":"TestA"}`, false},
		"one test":              {failed + `{"Action":"fail","Package":"p"}`, true},
		"a test and a build":    {failed + `{"Action":"build-fail","ImportPath":"q"}`, false},
		"a package by itself":   {failed + `{"Action":"fail","Package":"q"}`, false},
		"a test without an end": {failed + `{"Action":"output","Package":"p","Test":"TestB","Output":"panic"}`, false},
		"many tests":            {failed + strings.ReplaceAll(failed, "TestA", "TestB") + strings.ReplaceAll(failed, "TestA", "TestC") + strings.ReplaceAll(failed, "TestA", "TestD") + strings.ReplaceAll(failed, "TestA", "TestE"), false},
	} {
		r := newReport(new(strings.Builder))
		if err := r.read(strings.NewReader(c.events)); err != nil {
			t.Fatal(err)
		}
		if got := r.mayRunAgain(); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestFlagsOf(t *testing.T) {
	got := flagsOf([]string{"-race", "-p", "1", "-timeout", "20m", "./test/...", "github.com/berth-runtime/berth/cri"})
	if strings.Join(got, " ") != "-race -p 1 -timeout 20m" {
		t.Errorf("flags are %q", got)
	}
}
