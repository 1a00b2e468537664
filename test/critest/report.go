package critest

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
)

// suite is what ginkgo's --json-report has of a run: the part of types.Report that is used here.
type suite struct {
	SuiteSucceeded bool
	SpecReports    []spec
}

// spec is one test, or another node like BeforeSuite.
type spec struct {
	ContainerHierarchyTexts []string
	LeafNodeType            string
	LeafNodeText            string
	State                   string // passed, skipped, failed, panicked, interrupted, timedout, aborted, pending
	RunTime                 time.Duration
	Failure                 struct {
		Message  string
		Location struct {
			FileName   string
			LineNumber int
		}
	}
	CapturedGinkgoWriterOutput string
}

// name is the test's as its report has it: that of all its containers, and its own.
func (s spec) name() string {
	return strings.Join(append(s.ContainerHierarchyTexts, s.LeafNodeText), " ")
}

// readReport reads a report of one suite.
func readReport(path string) (*suite, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read critest's report: %w", err)
	}
	var out []suite
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, fmt.Errorf("read critest's report: %w", err)
	}
	if len(out) != 1 {
		return nil, fmt.Errorf("read critest's report: %d suites", len(out))
	}
	return &out[0], nil
}
