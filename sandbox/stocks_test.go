package sandbox

import (
	"errors"
	"sync/atomic"
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
		var rested atomic.Int32
		parts := Parts{Images: fakeImages{&daemon{world: w}}, Rested: func() { rested.Add(1) }, Log: logrus.New()}
		b := &base{parts: parts, log: parts.Log, tasks: newTasks(t.Context(), parts.Log)}
		s := &stocks{base: b, programs: &keptPrograms{base: b}}
		for range 10 {
			s.busy()
			time.Sleep(lullTime - 1)
			synctest.Wait()
		}
		if n := w.expectations(); n != 0 {
			t.Errorf("filled %d times in the rush", n)
		}
		time.Sleep(restTime - lullTime)
		synctest.Wait()
		if n := w.expectations(); n != 1 || rested.Load() != 0 {
			t.Errorf("after it filled %d times, rested %d times", n, rested.Load())
		}
		time.Sleep(10 * restTime)
		synctest.Wait()
		if rested.Load() != 1 {
			t.Errorf("rested %d times", rested.Load())
		}
	})
}
