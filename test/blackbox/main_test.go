package blackbox

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
	"github.com/berth-runtime/berth/test/registry"
)

// bed is what all tests pull from; root has it filled.
var bed struct {
	*registry.Server
	builder *images.Builder
}

func TestMain(m *testing.M) {
	if os.Geteuid() == 0 {
		server, builder, err := registry.StartFull()
		if err != nil {
			fmt.Fprintln(os.Stderr, "test bed:", err)
			os.Exit(1)
		}
		bed.Server, bed.builder = server, builder
	}
	os.Exit(m.Run())
}

// start runs a daemon that has pulled the images, busybox when none is named.
func start(t *testing.T, pull ...string) *harness.Daemon {
	t.Helper()
	if len(pull) == 0 {
		pull = []string{images.Busybox}
	}
	return harness.Start(t, harness.Options{Registry: bed.Server, Pull: pull})
}

// wantError holds an error against a code and words that must be in its message.
func wantError(t *testing.T, err error, code codes.Code, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error; wanted %v with %q", code, words)
		return
	}
	if got := status.Code(err); got != code {
		t.Errorf("code %v, wanted %v: %v", got, code, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is not in the error %q", w, err)
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// want compares what a test saw with what it expects.
func want[T comparable](t *testing.T, what string, got, expected T) {
	t.Helper()
	if got != expected {
		t.Errorf("%s is %v, wanted %v", what, got, expected)
	}
}
