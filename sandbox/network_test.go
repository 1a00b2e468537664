package sandbox

import (
	"errors"
	"fmt"
	"testing"

	"github.com/berth-runtime/berth/cni"
	"github.com/berth-runtime/berth/sandbox/spec"
)

func TestNetworkErrorsAreTheSandboxs(t *testing.T) {
	other := errors.New("other")
	for err, want := range map[error]error{
		cni.ErrInvalid: spec.ErrInvalid, cni.ErrPortTaken: ErrHostPort, cni.ErrNotReady: ErrNetwork, other: other,
	} {
		got := networkError(fmt.Errorf("attach: %w", err))
		if !errors.Is(got, want) || !errors.Is(got, err) {
			t.Errorf("%v became %v", err, got)
		}
	}
	if networkError(nil) != nil {
		t.Error("success is an error")
	}
}
