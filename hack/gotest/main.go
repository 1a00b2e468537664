// Command gotest runs go test with the arguments it gets and prints what matters:
// each package's closing line, everything of tests that failed, and at the end which
// tests were skipped and why. With -noskip it fails when a test was skipped for want
// of root: then something that was to be tested was not.
//
//	go run ./hack/gotest [-noskip] -- [go test's arguments]
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

func main() {
	noskip := flag.Bool("noskip", false, "fail when a test was skipped for want of root")
	flag.Parse()
	code, err := run(flag.Args(), *noskip, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		code = 1
	}
	os.Exit(code)
}

func run(args []string, noskip bool, out io.Writer) (int, error) {
	c := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	c.Stderr = out
	stdout, err := c.StdoutPipe()
	if err != nil {
		return 1, fmt.Errorf("make pipe: %w", err)
	}
	if err := c.Start(); err != nil {
		return 1, fmt.Errorf("start go test: %w", err)
	}
	r := newReport(out)
	if err := r.read(stdout); err != nil {
		return 1, err
	}
	code := 0
	if err := c.Wait(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			return 1, fmt.Errorf("run go test: %w", err)
		}
		code = max(1, exit.ExitCode())
	}
	if unrun := r.finish(); noskip && unrun > 0 {
		fmt.Fprintf(out, "FAIL: %d tests were skipped for want of root\n", unrun)
		code = max(1, code)
	}
	return code, nil
}

// event is a line of go test -json (go doc test2json).
type event struct {
	Action     string
	Package    string
	ImportPath string // of a build
	Test       string
	Output     string
}

// report follows the events.
type report struct {
	out     io.Writer
	tests   map[[2]string][]string // the output of tests that have not ended, by package and test
	skipped []skip
	passed  int
	failed  []string
}

type skip struct{ test, reason string }

func newReport(out io.Writer) *report {
	return &report{out: out, tests: map[[2]string][]string{}}
}

func (r *report) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(r.out, lines.Text()) // go itself has something to say
			continue
		}
		r.take(e)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read go test's output: %w", err)
	}
	return nil
}

func (r *report) take(e event) {
	key := [2]string{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "output":
		if e.Test == "" {
			r.packageLine(e.Output)
			return
		}
		r.tests[key] = append(r.tests[key], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			return
		}
		r.end(e.Action, e.Package+"."+e.Test, r.tests[key])
		delete(r.tests, key)
	}
}

// packageLine passes on what is not the output of a test.
func (r *report) packageLine(line string) {
	if line != "PASS\n" && !strings.Contains(line, "[no test files]") && !strings.HasPrefix(line, "testing: warning: no tests to run") {
		fmt.Fprint(r.out, line)
	}
}

func (r *report) end(action, test string, output []string) {
	switch action {
	case "pass":
		r.passed++
	case "fail":
		r.failed = append(r.failed, test)
		fmt.Fprint(r.out, strings.Join(output, ""))
	case "skip":
		r.skipped = append(r.skipped, skip{test, reason(output)})
	}
}

// reason is what a test said when it skipped itself.
func reason(output []string) string {
	var said []string
	for _, line := range output {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			said = append(said, line)
		}
	}
	return strings.Join(said, " ")
}

var forRoot = regexp.MustCompile(`(?i)\broot\b`)

// finish prints the summary and returns how many tests wanted root.
func (r *report) finish() int {
	for key, output := range r.tests { // cut off by a panic or a time-out
		fmt.Fprintf(r.out, "did not end: %s.%s\n%s", key[0], key[1], strings.Join(output, ""))
	}
	slices.SortFunc(r.skipped, func(a, b skip) int { return strings.Compare(a.test, b.test) })
	unrun := 0
	for _, s := range r.skipped {
		fmt.Fprintf(r.out, "skipped: %s: %s\n", s.test, s.reason)
		if forRoot.MatchString(s.reason) {
			unrun++
		}
	}
	for _, test := range r.failed {
		fmt.Fprintf(r.out, "failed: %s\n", test)
	}
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped\n", r.passed, len(r.failed)+len(r.tests), len(r.skipped))
	return unrun
}
