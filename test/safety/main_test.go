package safety

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
	"github.com/berth-runtime/berth/test/registry"
)

// bed is what all tests pull from; root has it filled.
var bed *registry.Server

func TestMain(m *testing.M) {
	if os.Geteuid() == 0 {
		if err := fill(); err != nil {
			fmt.Fprintln(os.Stderr, "test bed:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func fill() error {
	builder, err := images.New()
	if err != nil {
		return err
	}
	list, err := builder.Safety()
	if err != nil {
		return err
	}
	if bed, err = registry.Start(); err != nil {
		return err
	}
	return bed.Push(list...)
}

// start runs a daemon that has pulled the named images of the safety set.
func start(t *testing.T, names ...string) *harness.Daemon {
	t.Helper()
	var pull []string
	for _, n := range names {
		pull = append(pull, images.SafetyRef(n))
	}
	return harness.Start(t, harness.Options{Registry: bed, Pull: pull})
}

// container is one of the named image that runs a command, the image's own when there is none.
func container(name, image string, command ...string) *cri.ContainerConfig {
	c := harness.ContainerConfig(name, "")
	c.Image.Image, c.Command = images.SafetyRef(image), command
	return c
}

// outside makes the host's directory that images lead to, with a file that containers look for, and
// fails the test when at its end anything has been added, or changed.
func outside(t *testing.T) string {
	t.Helper()
	if err := os.Mkdir(images.Outside, 0o755); err != nil {
		t.Fatal(err)
	}
	secret := images.Outside + "/secret"
	if err := os.WriteFile(secret, []byte("the host's\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		entries, err := os.ReadDir(images.Outside)
		if err != nil {
			t.Error(err)
		}
		for _, e := range entries {
			if e.Name() != "secret" {
				t.Errorf("on the host there is now %s/%s", images.Outside, e.Name())
			}
		}
		if text, err := os.ReadFile(secret); string(text) != "the host's\n" {
			t.Errorf("%s says %q: %v", secret, text, err)
		}
		if err := os.RemoveAll(images.Outside); err != nil {
			t.Error(err)
		}
	})
	return images.Outside
}

// report is what the look program prints.
type report struct {
	PID         int
	Descriptors []string
	Mounts      []string
	Status      map[string]string
	Root        []string
	Kinds       map[string]string
}

func parse(t *testing.T, text string) report {
	t.Helper()
	var r report
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatalf("what look says is no report: %v\n%s", err, text)
	}
	return r
}

// look runs a container of the look program to its end.
func look(t *testing.T, pod *harness.Pod, config *cri.ContainerConfig) report {
	t.Helper()
	c := pod.Run(config)
	if s := c.Wait(); s.ExitCode != 0 {
		t.Fatalf("%s exits with %d: %s", config.Metadata.Name, s.ExitCode, c.Output("stderr"))
	}
	return parse(t, c.Output("stdout"))
}

// at lists the mounts at and below a path.
func (r report) at(path string) []string {
	var out []string
	for _, m := range r.Mounts {
		if point, _, _ := strings.Cut(m, " "); point == path || strings.HasPrefix(point, path+"/") {
			out = append(out, m)
		}
	}
	return out
}
