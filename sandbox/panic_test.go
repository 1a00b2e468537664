package sandbox

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
)

func quiet() logrus.FieldLogger {
	log := logrus.New()
	log.SetOutput(&bytes.Buffer{})
	return log
}

// A fault in the work for one pod ends that work, undone, and nothing else.
func TestPanicOfAStep(t *testing.T) {
	d := newWorld(t).start()
	other := d.runPod(podConfig("other"))
	d.busy = func() { panic("a plugin's fault") }
	_, err := d.m.RunPod(t.Context(), podConfig("web"))
	if !errors.Is(err, ErrPanicked) || strings.Contains(err.Error(), "plugin's") || strings.Contains(err.Error(), "goroutine") {
		t.Errorf("got %v", err)
	}
	d.busy = nil
	if pods := d.m.Pods(PodFilter{}); len(pods) != 1 || pods[0].ID != other {
		t.Errorf("pods %v", pods)
	}
	if _, err := d.m.RunPod(t.Context(), podConfig("web")); err != nil {
		t.Errorf("again: %v", err)
	}
	for _, p := range d.m.Pods(PodFilter{}) {
		if err := d.m.RemovePod(t.Context(), p.ID); err != nil {
			t.Error(err)
		}
	}
	d.settled()
}

// What panicked stands in the log, with the stack and the name of the work.
func TestPanicOfATask(t *testing.T) {
	var text bytes.Buffer
	log := logrus.New()
	log.SetOutput(&text)
	tasks := newTasks(t.Context(), log)
	_, err := tasks.do(t.Context(), "run pod web", time.Minute, func(context.Context) (string, error) { panic("a fault") })
	if !errors.Is(err, ErrPanicked) {
		t.Errorf("got %v", err)
	}
	if got, err := tasks.do(t.Context(), "run pod web", time.Minute, func(context.Context) (string, error) { return "id", nil }); got != "id" || err != nil {
		t.Errorf("again: %q, %v", got, err)
	}
	tasks.goes(func(context.Context) { panic("behind the scenes") })
	tasks.close(t.Context())
	for _, want := range []string{"run pod web", "a fault", "panic_test.go", "behind the scenes"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in the log:\n%s", want, text.String())
		}
	}
}
