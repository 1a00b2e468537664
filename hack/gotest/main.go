// Command gotest runs go test with the arguments it gets and prints what matters:
// each package's closing line, everything of tests that failed, and at the end which
// tests were skipped and why. With -noskip it fails when a test was skipped for want
// of root, or of something that make installs: a reason that begins with "needs". Then
// something that was to be tested was not. What a kernel or machine can't do is another
// reason. With -mayskip it fails when any was skipped whose name that expression doesn't
// match: on a machine that has what they need.
//
// With -again a few tests that failed, in packages that failed for nothing else, are run once more when all is over. Those
// that pass then are named as unsteady, and are no failure: one test in a thousand that lost a race with a busy machine.
//
//	go run ./hack/gotest [-noskip] [-mayskip EXPRESSION] [-again] -- [go test's arguments]
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
	noskip := flag.Bool("noskip", false, "fail when a test was skipped for want of something that make installs, or of root")
	again := flag.Bool("again", false, "run a few failed tests once more, and forgive those that pass then")
	mayskip := flag.String("mayskip", "", "fail when a test was skipped that this expression does not match")
	flag.Parse()
	rule := skipRule{noskip: *noskip}
	if *mayskip != "" {
		rule.may = regexp.MustCompile(*mayskip)
	}
	code, err := run(flag.Args(), rule, *again, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		code = 1
	}
	os.Exit(code)
}

// skipRule says which tests may be skipped.
type skipRule struct {
	noskip bool           // none for want of root, or of what make installs
	may    *regexp.Regexp // none but these; nil: any
}

// broken says whether the rule forbids that a test was skipped.
func (r skipRule) broken(s skip) bool {
	return r.noskip && forWant.MatchString(s.reason) || r.may != nil && !r.may.MatchString(s.test)
}

func run(args []string, rule skipRule, again bool, out io.Writer) (int, error) {
	r, code, err := goTest(args, out)
	if err != nil {
		return 1, err
	}
	if unrun := r.finish(rule); unrun > 0 {
		fmt.Fprintf(out, "FAIL: %d tests were skipped that should have run\n", unrun)
		return max(1, code), nil
	}
	if code == 0 || !again || !r.mayRunAgain() {
		return code, nil
	}
	for pkg, tests := range r.byName {
		fmt.Fprintf(out, "once more: %s of %s\n", strings.Join(tests, ", "), pkg)
		r, code, err := goTest(append(flagsOf(args), "-count=1", "-run=^("+strings.Join(tests, "|")+")$", pkg), out)
		if err != nil || code != 0 || r.passed == 0 {
			return max(1, code), err
		}
		fmt.Fprintf(out, "UNSTEADY: %s of %s passed when run once more\n", strings.Join(tests, ", "), pkg)
	}
	return 0, nil
}

// flagsOf are go test's arguments without the packages.
func flagsOf(args []string) []string {
	return slices.DeleteFunc(slices.Clone(args), func(a string) bool {
		return strings.HasPrefix(a, "./") || strings.HasPrefix(a, "github.com/")
	})
}

// goTest runs go test, and returns what came of it and its exit code.
func goTest(args []string, out io.Writer) (*report, int, error) {
	c := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	c.Stderr = out
	stdout, err := c.StdoutPipe()
	if err != nil {
		return nil, 1, fmt.Errorf("make pipe: %w", err)
	}
	if err := c.Start(); err != nil {
		return nil, 1, fmt.Errorf("start go test: %w", err)
	}
	r := newReport(out)
	if err := r.read(stdout); err != nil {
		return nil, 1, err
	}
	code := 0
	if err := c.Wait(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			return nil, 1, fmt.Errorf("run go test: %w", err)
		}
		code = max(1, exit.ExitCode())
	}
	return r, code, nil
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
	byName  map[string][]string // the tests that failed, without subtests, by package
	broken  bool                // something failed that is no test: a build, a package's own checks
}

type skip struct{ test, reason string }

func newReport(out io.Writer) *report {
	return &report{out: out, tests: map[[2]string][]string{}, byName: map[string][]string{}}
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
	case "build-fail":
		r.broken = true
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.broken = r.broken || e.Action == "fail" && len(r.byName[e.Package]) == 0
			return
		}
		if name, _, _ := strings.Cut(e.Test, "/"); e.Action == "fail" && !slices.Contains(r.byName[e.Package], name) {
			r.byName[e.Package] = append(r.byName[e.Package], name)
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

// mostAgain is how many tests may be run once more: when more fail, something is wrong.
const mostAgain = 4

// mayRunAgain says whether nothing but a few tests failed, each of which came to its end.
func (r *report) mayRunAgain() bool {
	n := 0
	for _, tests := range r.byName {
		n += len(tests)
	}
	return !r.broken && len(r.tests) == 0 && n > 0 && n <= mostAgain
}

// forWant are the reasons that are to be mended: go test puts the place before them.
var forWant = regexp.MustCompile(`(?i)\broot\b|(^|\.go:\d+: )needs `)

// finish prints the summary and returns how many tests were skipped against the rule.
func (r *report) finish(rule skipRule) int {
	for key, output := range r.tests { // cut off by a panic or a time-out
		fmt.Fprintf(r.out, "did not end: %s.%s\n%s", key[0], key[1], strings.Join(output, ""))
	}
	slices.SortFunc(r.skipped, func(a, b skip) int { return strings.Compare(a.test, b.test) })
	unrun := 0
	for _, s := range r.skipped {
		fmt.Fprintf(r.out, "skipped: %s: %s\n", s.test, s.reason)
		if rule.broken(s) {
			unrun++
		}
	}
	for _, test := range r.failed {
		fmt.Fprintf(r.out, "failed: %s\n", test)
	}
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped\n", r.passed, len(r.failed)+len(r.tests), len(r.skipped))
	return unrun
}
