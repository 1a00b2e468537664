package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestExplain(t *testing.T) {
	d := newWorld(t).start()
	pod := d.runPod(podConfig("web"))
	id := d.create(pod, containerConfig("c"))
	if _, err := d.m.ExplainContainer(id); !errors.Is(err, ErrState) || !strings.Contains(err.Error(), "has not been started") {
		t.Errorf("before the start: %v", err)
	}
	d.begin(id)
	text, err := d.m.ExplainContainer(id[:12])
	if err != nil || !strings.Contains(text, "container: "+id) || !strings.Contains(text, "\nlaunched: ") {
		t.Errorf("%q, %v", text, err)
	}
	if text, err := d.m.ExplainPod(pod); err != nil || !strings.Contains(text, "pod: "+pod) {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := d.m.ExplainContainer("unknown"); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
	file := d.m.programFile(pod, id)
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the start was delayed by a file: %v", err)
	}
	for begin := time.Now(); time.Since(begin) < time.Minute; time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(file); err == nil {
			break
		}
	}
	if again, err := d.m.ExplainContainer(id); err != nil || again != text {
		t.Errorf("written and read back: %q, %v", again, err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := d.m.ExplainContainer(id); !errors.Is(err, ErrState) || !strings.Contains(err.Error(), "was not kept") {
		t.Errorf("without its file: %v", err)
	}
}

// What is removed before its program is written leaves no file.
func TestProgramsOfShortLivesAreNotWritten(t *testing.T) {
	d := newWorld(t).start()
	pod := d.runPod(podConfig("web"))
	id := d.create(pod, containerConfig("c"))
	d.begin(id)
	if err := errors.Join(d.m.StopPod(t.Context(), pod), d.m.RemovePod(t.Context(), pod), d.m.Close()); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(d.m.cfg.podFiles(""), "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Whichever of the two comes first makes the pod's directory, with the same mode.
func TestProgramOfAPodWithoutDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pod")
	if err := writeProgram(filepath.Join(dir, "programs", "namespaces.gz"), keptProgram{text: "text"}, (&keptPrograms{}).packer()); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(dir)
	if err != nil || st.Mode().Perm() != podDirMode {
		t.Errorf("the pod's directory: %v, %v", st.Mode(), err)
	}
}
