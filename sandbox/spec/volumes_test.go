package spec

import (
	"slices"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestDeclaredVolumes(t *testing.T) {
	image := &ocispec.ImageConfig{Volumes: map[string]struct{}{
		"/data": {}, "/data/": {}, "relative": {}, "/a/../../../etc": {}, "/": {}, "": {}, "/mine": {}, "/proc": {}, "/proc/sys": {}, "/sys/fs": {}, "/dev/shm": {}, "/devices": {},
	}}
	mounts := []Mount{{ContainerPath: "/mine/"}}
	want := []string{"/data", "/devices", "/etc", "/relative"}
	if got := DeclaredVolumes(image, mounts); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := DeclaredVolumes(nil, mounts); got != nil {
		t.Errorf("of no image: %q", got)
	}
	in := input()
	in.Image, in.Container.Mounts, in.VolumePaths = image, mounts, []string{"/volumes/0", "/volumes/1", "/volumes/2", "/volumes/3"}
	in.Container.Security.ReadonlyRootfs = true
	s, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range s.Mounts {
		if m.Destination == "/relative" && m.Source == "/volumes/3" && slices.Equal(m.Options, []string{"rbind", "rprivate", "rw"}) {
			return
		}
		if i == len(s.Mounts)-1 {
			t.Errorf("no mount on /relative: %v", s.Mounts)
		}
	}
}
