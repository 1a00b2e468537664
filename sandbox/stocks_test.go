package sandbox

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
)

func (w *world) expectations() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.expected
}

// TestStocksAreFilled after a pod, a container and its start.
func TestStocksAreFilled(t *testing.T) {
	d := newWorld(t).start()
	filled := func(after string, want int) {
		t.Helper()
		d.eventually("stocks filled after "+after, func() error {
			if d.expectations() < want {
				return errors.New("not yet")
			}
			return nil
		})
	}
	id := d.runPod(podConfig("web"))
	filled("a pod", 1)
	c := d.create(id, containerConfig("app"))
	filled("a container", 2)
	if err := d.m.StartContainer(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	filled("a start", 3)
}

// TestStocksWaitForALull: what comes while others are set up waits, and one filling is enough for many.
func TestStocksWaitForALull(t *testing.T) {
	w := newWorld(t)
	synctest.Test(t, func(t *testing.T) {
		parts := Parts{Images: fakeImages{&daemon{world: w}}, Log: logrus.New()}
		s := &stocks{base: &base{parts: parts, log: parts.Log, tasks: newTasks(t.Context(), parts.Log)}}
		for range 10 {
			s.busy()
			time.Sleep(lull - 1)
			synctest.Wait()
		}
		if n := w.expectations(); n != 0 {
			t.Errorf("filled %d times in the rush", n)
		}
		time.Sleep(10 * lull)
		synctest.Wait()
		if n := w.expectations(); n != 1 {
			t.Errorf("filled %d times after it", n)
		}
	})
}
