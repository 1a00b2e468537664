package sandbox

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-runtime/berth/sandbox/spec"
)

func samplePod() *podRecord {
	return &podRecord{
		Version: recordVersion, ID: "p", Boot: "b", State: PodReady, Config: podConfig("web"),
		CreatedAt: time.Unix(1, 2).UTC(), IPs: []netip.Addr{netip.MustParseAddr("fd00::1")}, NetNS: "/run/netns/berth-p",
	}
}

func sampleContainer() *containerRecord {
	c := containerConfig("c")
	c.Envs = []spec.Env{{Key: "BYTES", Value: []byte{0xff, 0xfe}}}
	return &containerRecord{
		Version: recordVersion, ID: "c", PodID: "p", Boot: "b", State: ContainerExited, Config: c,
		Image:      imageRecord{ID: "sha256:1", Name: "web:1", Digest: "web@sha256:2", Config: ocispec.ImageConfig{Entrypoint: []string{"serve"}}},
		User:       &spec.User{UID: 1, GID: 2, Groups: []uint32{2}, Home: "/"},
		StopSignal: 15, Cgroup: "/berth/c", PID: 7, CreatedAt: time.Unix(1, 0).UTC(), StartedAt: time.Unix(2, 0).UTC(),
		FinishedAt: time.Unix(3, 0).UTC(), ExitCode: 137, Reason: ReasonOOMKilled, Message: "m", LogPath: "/logs/c",
	}
}

func TestRecordsAreReadBack(t *testing.T) {
	r := newRecords(t.TempDir())
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	pod, container := samplePod(), sampleContainer()
	for range 2 { // the second replaces the first
		if err := errors.Join(r.makePod("p"), r.putPod(pod), r.putContainer(container)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, r.containerPath("p", "c")+".new", "what a killed daemon left")
	got, err := r.load("p")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.record, pod) {
		t.Errorf("pod is %+v, wanted %+v", got.record, pod)
	}
	if len(got.containers) != 1 || !reflect.DeepEqual(got.containers[0].record, container) {
		t.Errorf("containers are %+v, wanted %+v", got.containers, container)
	}
	if st, err := os.Stat(r.containerPath("p", "c")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("secrets are in a file of mode %v", st.Mode())
	}
	if err := errors.Join(r.removeContainer("p", "c"), r.removeContainer("p", "c")); err != nil {
		t.Errorf("remove: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(r.dir, "*", "*", "*")); len(left) != 0 {
		t.Errorf("removal leaves %v, with secrets", left)
	}
	if err := errors.Join(r.removePod("p"), r.removePod("p")); err != nil {
		t.Errorf("remove: %v", err)
	}
	if got, err := r.load("p"); err != nil || got.record != nil || len(got.containers) != 0 {
		t.Errorf("removed pod is %+v, %v", got, err)
	}
}

// A record that is another's is torn, whatever it says.
func TestRecordsOfOthersAreTorn(t *testing.T) {
	r := newRecords(t.TempDir())
	if err := os.MkdirAll(filepath.Join(r.podDir("q"), "containers"), 0o700); err != nil {
		t.Fatal(err)
	}
	pod, _ := json.Marshal(samplePod())
	container, _ := json.Marshal(sampleContainer())
	write(t, r.podPath("q"), string(pod))
	write(t, r.containerPath("q", "c"), string(container))
	got, err := r.load("q")
	if err != nil || got.record != nil || len(got.containers) != 1 || got.containers[0].record != nil {
		t.Errorf("got %+v, %v", got, err)
	}
}

func FuzzParsePod(f *testing.F) {
	good, _ := json.Marshal(samplePod())
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte(`{"version":1,"state":"ready","config":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		rec, err := parsePod(data)
		if err != nil {
			if !errors.Is(err, errRecord) {
				t.Errorf("error %v", err)
			}
			return
		}
		_ = newPod(t.Context(), *rec).now()
		_ = attachment(rec)
		_ = podNamespaces(rec.Config)
	})
}

func FuzzParseContainer(f *testing.F) {
	good, _ := json.Marshal(sampleContainer())
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte(`{"version":1,"state":"unknown","config":{}}`))
	p := newPod(f.Context(), *samplePod())
	f.Fuzz(func(t *testing.T, data []byte) {
		rec, err := parseContainer(data)
		if err != nil {
			if !errors.Is(err, errRecord) {
				t.Errorf("error %v", err)
			}
			return
		}
		_ = newContainer(p, *rec).now()
	})
}
