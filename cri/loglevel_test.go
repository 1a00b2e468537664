package cri

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/berth-runtime/berth/imagestore"
	"github.com/berth-runtime/berth/sandbox"
	"github.com/berth-runtime/berth/sandbox/spec"
	"github.com/sirupsen/logrus"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A change that fails is seen at level info, once; what the client did wrong isn't, nor a question.
func TestFailedChangesAreLogged(t *testing.T) {
	for _, c := range []struct {
		err  error
		want logrus.Level
	}{
		{nil, logrus.DebugLevel},
		{errors.New("disk is full"), logrus.WarnLevel},
		{sandbox.ErrState, logrus.WarnLevel},
		{imagestore.ErrDenied, logrus.WarnLevel},
		{sandbox.ErrPanicked, logrus.WarnLevel},
		{context.DeadlineExceeded, logrus.WarnLevel},
		{sandbox.ErrNotFound, logrus.DebugLevel},
		{spec.ErrInvalid, logrus.DebugLevel},
		{context.Canceled, logrus.DebugLevel},
	} {
		t.Run(fmt.Sprint(c.err), func(t *testing.T) {
			d := open(t, &fakeRooms{err: c.err})
			_, _ = d.StartContainer(t.Context(), &v1.StartContainerRequest{ContainerId: "c"})
			entries := d.log.AllEntries()
			if len(entries) != 1 || entries[0].Level != c.want || entries[0].Data["op"] != "/runtime.v1.RuntimeService/StartContainer" {
				t.Fatalf("log %v, want one line at %s", entries, c.want)
			}
			if (entries[0].Data["error"] != nil) != (c.err != nil) {
				t.Errorf("fields %v", entries[0].Data)
			}
		})
	}
	d := open(t, &fakeRooms{err: errors.New("disk is full")})
	_, _ = d.ContainerStatus(t.Context(), &v1.ContainerStatusRequest{ContainerId: "c"})
	_, _ = d.ExecSync(t.Context(), &v1.ExecSyncRequest{ContainerId: "c", Cmd: []string{"probe"}})
	for _, e := range d.log.AllEntries() {
		if e.Level != logrus.DebugLevel {
			t.Errorf("%v at %s", e.Data["op"], e.Level)
		}
	}
}

// A name with a slip would silence its method.
func TestChangingMethodsExist(t *testing.T) {
	runtime, images := reflect.TypeFor[v1.RuntimeServiceServer](), reflect.TypeFor[v1.ImageServiceServer]()
	for name := range changing {
		_, ofRuntime := runtime.MethodByName(name)
		_, ofImages := images.MethodByName(name)
		if !ofRuntime && !ofImages {
			t.Errorf("%s is no method of the CRI", name)
		}
	}
}
