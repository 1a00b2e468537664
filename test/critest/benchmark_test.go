package critest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// numberVariable is how many pods and containers the suite's benchmarks run (make critest-bench).
const numberVariable = "BERTH_CRITEST_BENCHMARK"

// TestRootBenchmark runs the suite's benchmarks, with small numbers unless it is told others: that they pass is all that is asked
// here. What they measured is logged.
func TestRootBenchmark(t *testing.T) {
	number := 5
	if text := os.Getenv(numberVariable); text != "" {
		var err error
		if number, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s: %v", numberVariable, err)
		}
	}
	params, results := filepath.Join(t.TempDir(), "params.yaml"), t.TempDir()
	if err := os.WriteFile(params, fmt.Appendf(nil, `containersNumber: %[1]d
containersNumberParallel: 2
containerBenchmarkTimeoutSeconds: 60
podsNumber: %[1]d
podsNumberParallel: 2
podBenchmarkTimeoutSeconds: 60
imagesNumber: 3
imagesNumberParallel: 1
imageBenchmarkTimeoutSeconds: 60
podContainerStartBenchmarkTimeoutSeconds: 60
`, number), 0o600); err != nil {
		t.Fatal(err)
	}
	report := critest(t, "-benchmark", "-benchmarking-params-file="+params, "-benchmarking-output-dir="+results)
	if passed := allPassed(t, report); passed < 4 && os.Getenv(focusVariable) == "" {
		t.Errorf("only %d benchmarks ran", passed)
	}
	files, err := filepath.Glob(filepath.Join(results, "*.json"))
	if err != nil || len(files) == 0 && os.Getenv(focusVariable) == "" {
		t.Errorf("results: %v, %v", files, err)
	}
	for _, path := range files {
		show(t, path)
	}
}

// show logs the medians of a file of results.
func show(t *testing.T, path string) {
	var set struct {
		OperationsNames []string
		Datapoints      []struct{ OperationsDurationsNs []int64 }
	}
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &set)
	}
	if err != nil || len(set.Datapoints) == 0 {
		t.Errorf("results %s: %d, %v", path, len(set.Datapoints), err)
		return
	}
	for i, name := range set.OperationsNames {
		var took []int64
		for _, p := range set.Datapoints {
			if i < len(p.OperationsDurationsNs) {
				took = append(took, p.OperationsDurationsNs[i])
			}
		}
		if len(took) == 0 {
			t.Errorf("%s: no result of %s", path, name)
			continue
		}
		slices.Sort(took)
		t.Logf("%s, %s: median %v, p95 %v of %d", filepath.Base(path), name, time.Duration(took[len(took)/2]), time.Duration(took[len(took)*95/100]), len(took))
	}
}
