package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func newTestRecords(t *testing.T) *records {
	t.Helper()
	r := newRecords(t.TempDir())
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return r
}

func mustLoad(t *testing.T, r *records, podID string) *savedPod {
	t.Helper()
	got, err := r.load(podID)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestRecordsAreReadBack(t *testing.T) {
	r := newTestRecords(t)
	pod, container := samplePod(), sampleContainer()
	for _, state := range []ContainerState{ContainerCreated, ContainerExited} { // the second counts
		container.State = state
		if err := errors.Join(r.putPod(pod), r.putContainer(container)); err != nil {
			t.Fatal(err)
		}
	}
	got := mustLoad(t, r, "p")
	if !reflect.DeepEqual(got.record, pod) {
		t.Errorf("pod is %+v, wanted %+v", got.record, pod)
	}
	if len(got.containers) != 1 || !reflect.DeepEqual(got.containers[0].record, container) {
		t.Errorf("containers are %+v, wanted %+v", got.containers, container)
	}
	if st, err := os.Stat(r.path("p")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("secrets are in a file of mode %v", st.Mode())
	}
	if err := errors.Join(r.removeContainer("p", "c"), r.removeContainer("p", "c")); err != nil {
		t.Errorf("remove: %v", err)
	}
	if got := mustLoad(t, r, "p"); len(got.containers) != 0 || got.record == nil {
		t.Errorf("after the container's removal: %+v", got)
	}
	if err := errors.Join(r.removePod("p"), r.removePod("p"), r.removeContainer("p", "c")); err != nil {
		t.Errorf("remove: %v", err)
	}
	if left, _ := os.ReadDir(r.dir); len(left) != 0 {
		t.Errorf("removal leaves %v, with secrets", left)
	}
	if got := mustLoad(t, r, "p"); got.record != nil || len(got.containers) != 0 {
		t.Errorf("removed pod is %+v", got)
	}
}

// A record that is another's is torn, whatever it says.
func TestRecordsOfOthersAreTorn(t *testing.T) {
	r := newTestRecords(t)
	pod, _ := json.Marshal(samplePod())
	container, _ := json.Marshal(sampleContainer())
	write(t, r.path("q"), "pod q "+string(pod)+"\ncontainer c "+string(container)+"\n")
	if got := mustLoad(t, r, "q"); got.record != nil || len(got.containers) != 1 || got.containers[0].record != nil {
		t.Errorf("got %+v", got)
	}
}

// What comes after a torn line must not be taken for a part of it.
func TestTornEndOfALedger(t *testing.T) {
	r := newTestRecords(t)
	pod, container := samplePod(), sampleContainer()
	if err := errors.Join(r.putPod(pod), r.putContainer(container)); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(r.path("p"))
	if err != nil {
		t.Fatal(err)
	}
	step := 1
	if testing.Short() {
		step = 7
	}
	for cut := len(whole) - 1; cut >= 0; cut -= step {
		write(t, r.path("p"), string(whole[:cut]))
		again := newRecords(strings.TrimSuffix(r.dir, "/pods"))
		mustLoad(t, again, "p")
		if err := errors.Join(again.putPod(pod), again.putContainer(container)); err != nil {
			t.Fatal(err)
		}
		got := mustLoad(t, again, "p")
		if !reflect.DeepEqual(got.record, pod) || len(got.containers) != 1 || !reflect.DeepEqual(got.containers[0].record, container) {
			t.Fatalf("cut at %d: %+v", cut, got)
		}
	}
}

// A byte that isn't what was written costs the line that it is in, at the most: what is read is the whole record or
// none, and what is written next is read back.
func TestWrongByteInALedger(t *testing.T) {
	r := newTestRecords(t)
	pod, container := samplePod(), sampleContainer()
	if err := errors.Join(r.putPod(pod), r.putContainer(container)); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(r.path("p"))
	if err != nil {
		t.Fatal(err)
	}
	for at := range whole {
		wrongs := []byte{0, '\n', ' ', whole[at] ^ 1}
		if testing.Short() {
			wrongs = wrongs[at%4 : at%4+1]
		}
		for _, wrong := range wrongs {
			damaged := bytes.Clone(whole)
			damaged[at] = wrong
			write(t, r.path("p"), string(damaged))
			again := newRecords(strings.TrimSuffix(r.dir, "/pods"))
			got := mustLoad(t, again, "p")
			inPod := at <= bytes.IndexByte(whole, '\n')
			if !inPod && !reflect.DeepEqual(got.record, pod) {
				t.Fatalf("byte %d, %q: the pod's record is %+v", at, wrong, got.record)
			}
			if got.record != nil && got.record.ID != "p" {
				t.Fatalf("byte %d, %q: it is pod %s", at, wrong, got.record.ID)
			}
			for _, c := range got.containers {
				if c.record != nil && (c.record.ID != c.id || c.record.PodID != "p") {
					t.Fatalf("byte %d, %q: container %+v", at, wrong, c.record)
				}
			}
			if err := errors.Join(again.putPod(pod), again.putContainer(container)); err != nil {
				t.Fatal(err)
			}
			got = mustLoad(t, again, "p")
			last := got.containers[len(got.containers)-1]
			if i := slices.IndexFunc(got.containers, func(c savedContainer) bool { return c.id == "c" }); i >= 0 {
				last = got.containers[i]
			}
			if !reflect.DeepEqual(got.record, pod) || !reflect.DeepEqual(last.record, container) {
				t.Fatalf("byte %d, %q: afterwards %+v", at, wrong, got)
			}
		}
	}
}

// A disk that takes half a line takes none of the next for its end.
func TestWriteThatFailsHalfWay(t *testing.T) {
	r := newTestRecords(t)
	pod := samplePod()
	if err := r.putPod(pod); err != nil {
		t.Fatal(err)
	}
	full := errors.New("disk full")
	r.write = func(path string, line []byte) (int64, error) {
		size, err := appendTo(path, line[:len(line)/2])
		return size, errors.Join(full, err)
	}
	if err := r.putContainer(sampleContainer()); !errors.Is(err, full) {
		t.Fatalf("got %v", err)
	}
	r.write = appendTo
	if err := r.putContainer(sampleContainer()); err != nil {
		t.Fatal(err)
	}
	if got := mustLoad(t, r, "p"); got.record == nil || len(got.containers) != 1 || got.containers[0].record == nil {
		t.Errorf("got %+v", got)
	}
}

// A container that is started again and again must not fill the disk with its past.
func TestLedgersStaySmall(t *testing.T) {
	r := newTestRecords(t)
	pod, first := samplePod(), sampleContainer()
	if err := errors.Join(r.putPod(pod), r.putContainer(first)); err != nil {
		t.Fatal(err)
	}
	for i := range 2000 {
		c := sampleContainer()
		c.ID = strings.Repeat("x", 64)
		if err := errors.Join(r.putContainer(c), r.putContainer(c), r.removeContainer("p", c.ID)); err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(r.path("p")); err != nil || st.Size() > 2*ledgerSize {
			t.Fatalf("after %d containers: %d bytes, %v", i, st.Size(), err)
		}
	}
	got := mustLoad(t, r, "p")
	if !reflect.DeepEqual(got.record, pod) || len(got.containers) != 1 || !reflect.DeepEqual(got.containers[0].record, first) {
		t.Errorf("what counts is %+v", got)
	}
	if left, _ := os.ReadDir(r.dir); len(left) != 1 {
		t.Errorf("beside the ledger: %v", left)
	}
}

// What a daemon killed while rewriting left is taken away, and is no pod.
func TestInterruptedRewrite(t *testing.T) {
	r := newTestRecords(t)
	if err := r.putPod(samplePod()); err != nil {
		t.Fatal(err)
	}
	write(t, r.path("p")+besideLedger, "pod p {")
	ids, err := r.podIDs()
	if err != nil || !reflect.DeepEqual(ids, []string{"p"}) {
		t.Errorf("pods %v, %v", ids, err)
	}
	if left, _ := os.ReadDir(r.dir); len(left) != 1 {
		t.Errorf("left %v", left)
	}
}

func FuzzLastLines(f *testing.F) {
	f.Add([]byte("pod p {}\ncontainer c {}\ncontainer c {\"a\":1}\nremoved c\n"))
	f.Add([]byte("container c {}\npod p"))
	f.Fuzz(func(t *testing.T, data []byte) {
		lines, torn := lastLines(data)
		if torn != (len(data) > 0 && data[len(data)-1] != '\n') {
			t.Errorf("torn is %v", torn)
		}
		seen := map[string]bool{}
		for _, l := range lines {
			if key := l.word + " " + l.id; l.id == "" || seen[key] {
				t.Errorf("%q twice, or without a name", key)
			} else {
				seen[key] = true
			}
		}
	})
}
