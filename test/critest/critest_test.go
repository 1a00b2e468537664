package critest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/registry"
)

// patience bounds one run of the suite.
const patience = 15 * time.Minute

// offline is a test that can't pass without the registry of the project: it pulls by a digest that is written into
// it. TestRootPullByDigest of test/blackbox stands in for it.
const offline = "public image with digest should be pulled and removed"

// cantRun are tests that the suite skips by itself where the kernel lacks something, by a part of their names.
var cantRun = map[string]func() bool{"AppArmor": noAppArmor, "SELinux": noSELinux}

func TestRootSerial(t *testing.T) { validate(t) }

func TestRootParallel(t *testing.T) { validate(t, "-parallel=4") }

// TestRootWebSocket runs the suite's execs and attaches over WebSocket: otherwise it uses SPDY. Its port-forward would be
// SPDY tunnelled through a WebSocket, which the API server unpacks before kubelet; runtimes don't get to see that.
func TestRootWebSocket(t *testing.T) {
	report := critest(t, "-websocket-exec", "-websocket-attach", "-ginkgo.focus=Streaming.*(exec|attach)")
	if passed := allPassed(t, report); passed < 3 && os.Getenv(focusVariable) == "" {
		t.Errorf("only %d tests ran", passed)
	}
}

// TestRootAppArmor runs those of the suite's tests that a kernel with AppArmor is needed for.
func TestRootAppArmor(t *testing.T) {
	harness.NeedRoot(t)
	if noAppArmor() {
		t.Skip("this kernel has no AppArmor, or it is not enabled")
	}
	report := critest(t, "-ginkgo.focus=AppArmor")
	if passed := allPassed(t, report); passed < 9 {
		t.Errorf("only %d tests ran", passed)
	}
}

// sudo gives a directory with a sudo for who is root: the suite loads its AppArmor profiles by it, and a machine may have none.
func sudo(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "sudo"), []byte("#!/bin/sh\nexec \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// allPassed counts the tests that passed, of which none may have failed.
func allPassed(t *testing.T, report *suite) (passed int) {
	for _, s := range report.SpecReports {
		switch {
		case s.State == "passed" && s.LeafNodeType == "It":
			passed++
		case s.State != "passed" && s.State != "skipped":
			t.Errorf("%s %s: %s\n%s", s.State, s.name(), s.Failure.Message, s.CapturedGinkgoWriterOutput)
		}
	}
	return passed
}

// validate runs the suite and looks at each of its tests.
func validate(t *testing.T, flags ...string) {
	report := critest(t, append(flags, "-ginkgo.skip="+offline)...)
	passed, skipped := 0, []string(nil)
	for _, s := range report.SpecReports {
		switch {
		case s.LeafNodeType != "It" && s.State == "passed":
		case s.State == "passed":
			passed++
		case s.State == "skipped" && expected(s):
			skipped = append(skipped, s.name())
		default:
			at := s.Failure.Location
			t.Errorf("%s %s: %s (%s:%d)\n%s", s.State, s.name(), s.Failure.Message, filepath.Base(at.FileName), at.LineNumber, s.CapturedGinkgoWriterOutput)
		}
	}
	t.Logf("%d tests of critest passed, skipped: %q", passed, skipped)
	if passed < 100 && os.Getenv(focusVariable) == "" {
		t.Errorf("only %d tests ran", passed)
	}
}

// expected says whether a test may be skipped.
func expected(s spec) bool {
	name := s.name()
	if strings.Contains(name, offline) || strings.Contains(name, "benchmark") || os.Getenv(focusVariable) != "" {
		return true
	}
	for part, lacks := range cantRun {
		if strings.Contains(name, part) {
			return lacks()
		}
	}
	return false
}

// noAppArmor says whether the kernel has no AppArmor, or it is not enabled.
func noAppArmor() bool {
	text, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return err != nil || strings.TrimSpace(string(text)) != "Y"
}

func noSELinux() bool {
	_, err := os.Stat("/sys/fs/selinux/enforce")
	return err != nil
}

const focusVariable = "BERTH_CRITEST_FOCUS"

// critest runs the suite on a daemon of its own.
func critest(t *testing.T, flags ...string) *suite {
	t.Helper()
	bin := harness.Bin(t)
	server, _, err := registry.StartFull()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	d := harness.Start(t, harness.Options{Registry: server})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dir := t.TempDir()
	args := append(flags, "-runtime-endpoint=unix://"+d.Socket, "-ginkgo.json-report="+filepath.Join(dir, "report.json"), "-ginkgo.no-color")
	if focus := os.Getenv(focusVariable); focus != "" {
		args = append(args, "-ginkgo.focus="+focus)
	}
	c := exec.CommandContext(ctx, filepath.Join(bin, "critest"), args...)
	c.Dir = dir
	// It has its logs in the directory for temporary files, and starts ginkgo from PATH.
	c.Env = append(os.Environ(), "TMPDIR="+dir, "PATH="+bin+":"+sudo(t)+":"+os.Getenv("PATH"))
	var out strings.Builder
	c.Stdout, c.Stderr = &out, &out
	if testing.Verbose() {
		c.Stdout = io.MultiWriter(&out, t.Output())
	}
	runErr := c.Run() // it fails with any test: the report tells which
	report, err := readReport(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatalf("%v\n%v\n%s", err, runErr, tail(out.String()))
	}
	if runErr != nil && report.SuiteSucceeded {
		t.Errorf("critest: %v\n%s", runErr, tail(out.String()))
	}
	return report
}

func tail(s string) string {
	const most = 8 << 10
	if len(s) > most {
		return fmt.Sprintf("… (%d bytes before)\n%s", len(s)-most, s[len(s)-most:])
	}
	return s
}
