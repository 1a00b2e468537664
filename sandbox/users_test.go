package sandbox

import (
	"errors"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// TestUserNamespacesAreTried: what the node can't do is said before anything is made, and tried again.
func TestUserNamespacesAreTried(t *testing.T) {
	d := newWorld(t).start()
	ids := []spec.IDMapping{{ContainerID: 0, HostID: 65536, Length: 65536}}
	config := podConfig("users")
	config.Security.Namespaces.User = &spec.UserNamespace{UIDs: ids, GIDs: ids}
	for _, op := range []string{"launch namespaces", "check mapping"} {
		cause := errors.New("no such luck")
		d.fail(op, cause)
		if err := d.m.UserNamespaces(t.Context()); !errors.Is(err, cause) {
			t.Errorf("%s fails: %v", op, err)
		}
		if _, err := d.m.RunPod(t.Context(), config); !errors.Is(err, spec.ErrInvalid) || !strings.Contains(err.Error(), "no such luck") {
			t.Errorf("%s fails: %v", op, err)
		}
		d.fail(op, nil)
	}
	for range 2 {
		if err := d.m.UserNamespaces(t.Context()); err != nil {
			t.Error(err)
		}
		d.fail("check mapping", errors.New("not asked again"))
	}
	if len(d.m.Pods(PodFilter{})) > 0 {
		t.Error("there is a pod")
	}
}
