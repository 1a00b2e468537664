package sandbox

import (
	"encoding/json"
	"errors"
	"net/netip"
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
