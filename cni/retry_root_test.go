package cni

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// TestRootFailedDelIsRetried has a plugin that fails to release twice: nobody asks again, and nothing is left in the end.
func TestRootFailedDelIsRetried(t *testing.T) {
	w := newWorld(t, nil)
	w.retries.first = 10 * time.Millisecond
	count := filepath.Join(t.TempDir(), "count")
	w.foreign(t, "sticky", `case $CNI_COMMAND in
		ADD) echo '{"cniVersion":"1.0.0","ips":[{"address":"10.9.0.2/24"}]}';;
		DEL) echo x >>`+count+`; [ $(wc -l <`+count+`) -gt 2 ] || { echo '{"code":11,"msg":"not now"}'; exit 1; };;
		esac`)
	w.write(t, "10-net.conflist", `{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"sticky"}]}`)
	p := w.pod(t, "p")
	if err := w.Del(context.Background(), p.Attachment); err == nil {
		t.Fatal("the DEL did not fail")
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		if ids, err := w.book.intents.list(); err == nil && len(ids) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the DEL was not retried")
		}
		time.Sleep(5 * time.Millisecond)
	}
	w.nothingLeft(t)
	if tries, err := os.ReadFile(count); err != nil || len(tries) != len("x\n")*3 {
		t.Errorf("%d bytes of tries, %v", len(tries), err)
	}
}

// TestRootRetrySparesWhatIsAttachedAgain adds the pod again before its failed DEL is retried.
func TestRootRetrySparesWhatIsAttachedAgain(t *testing.T) {
	w := newWorld(t, nil)
	p := w.pod(t, "p")
	w.book.disown(p.ID) // as after a DEL that failed
	w.retries.later(p.ID)
	if _, err := w.Add(context.Background(), p.Attachment); err != nil {
		t.Fatal(err)
	}
	if err := w.retryDel(p.ID); err != nil {
		t.Fatal(err)
	}
	if ids, err := w.book.intents.list(); err != nil || len(ids) != 1 {
		t.Errorf("attachments %v, %v", ids, err)
	}
	w.del(t, p.Attachment)
	w.nothingLeft(t)
}

// TestRootSweepLeavesRetriesAlone: while the sweep runs no pod is attached, so it must not wait for the plugin of a pod whose DEL waits to
// be run again.
func TestRootSweepLeavesRetriesAlone(t *testing.T) {
	w := newWorld(t, nil)
	w.retries.first = time.Hour
	count := filepath.Join(t.TempDir(), "count")
	w.foreign(t, "sticky", `case $CNI_COMMAND in
		ADD) echo '{"cniVersion":"1.0.0","ips":[{"address":"10.9.0.2/24"}]}';;
		DEL) echo x >>`+count+`; [ $(wc -l <`+count+`) -gt 1 ] || { echo '{"code":11,"msg":"not now"}'; exit 1; };;
		esac`)
	w.write(t, "10-net.conflist", `{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"sticky"}]}`)
	p := w.pod(t, "p")
	if err := w.GC(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	if err := w.Del(context.Background(), p.Attachment); err == nil {
		t.Fatal("the DEL did not fail")
	}
	if err := w.janitor.sweepNow(context.Background()); err != nil {
		t.Fatal(err)
	}
	if tries, err := os.ReadFile(count); err != nil || len(tries) != len("x\n") {
		t.Errorf("%d bytes of tries, %v: the sweep asked the plugin", len(tries), err)
	}
	if ids, err := w.book.intents.list(); err != nil || len(ids) != 1 {
		t.Errorf("attachments %v, %v: the sweep forgot it", ids, err)
	}
	if err := w.retryDel(p.ID); err != nil {
		t.Error(err)
	}
	w.nothingLeft(t)
}

// TestSweepKeepsNobodyWaiting: a plugin hangs with its pod half attached, and the sweep comes; other pods are attached nevertheless.
func TestSweepKeepsNobodyWaiting(t *testing.T) {
	n := &janitor{life: &sync.RWMutex{}, stopped: true}
	n.life.RLock() // the pod whose plugin hangs
	swept := make(chan error, 1)
	go func() { swept <- n.sweepNow(t.Context()) }()
	for range 20 {
		time.Sleep(5 * time.Millisecond)
		other := make(chan struct{})
		go func() {
			n.life.RLock()
			defer n.life.RUnlock()
			close(other)
		}()
		select {
		case <-other:
		case <-time.After(5 * time.Second):
			t.Fatal("the sweep keeps other pods waiting")
		}
	}
	select {
	case err := <-swept:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the sweep waits for the plugin")
	}
	n.life.RUnlock()
}

func TestRetriesWaitLonger(t *testing.T) {
	r := retries{run: func(string) error { return nil }, first: time.Hour, waiting: map[string]*retry{}}
	defer r.close()
	r.later("a")
	if d := r.waiting["a"].delay; d != time.Hour {
		t.Errorf("first %s", d)
	}
	r.waiting["a"].delay = time.Minute
	r.later("a")
	if d := r.waiting["a"].delay; d != 2*time.Minute {
		t.Errorf("second %s", d)
	}
	r.waiting["a"].delay = 4 * time.Minute
	r.later("a")
	if d := r.waiting["a"].delay; d != retryLast {
		t.Errorf("third %s", d)
	}
	r.forget("a")
	if len(r.waiting) > 0 {
		t.Error("what is forgotten waits")
	}
	r.close()
	r.later("b")
	if len(r.waiting) > 0 {
		t.Error("what is closed takes more")
	}
}

func TestLocksExclude(t *testing.T) {
	var l locks
	var all sync.WaitGroup
	inside, most := 0, 0
	for range 50 {
		all.Go(func() {
			defer l.take("a")()
			inside++
			most = max(most, inside)
			inside--
		})
	}
	other := l.take("b") // not held up by a
	other()
	all.Wait()
	if most != 1 || len(l.held) != 0 {
		t.Errorf("%d at once, %d locks left", most, len(l.held))
	}
}

// TestRootSweep plants what a crash would leave, beside a pod of this daemon and one of the daemon before.
func TestRootSweep(t *testing.T) {
	w := newWorld(t, nil)
	w.pod(t, "before")
	w.restart(t)
	if err := w.GC(context.Background(), []string{podID("before")}); err != nil {
		t.Fatal(err)
	}
	w.pod(t, "since")
	stray := filepath.Join(w.dir, leasesDir, builtinName, "10.88.0.77")
	if err := os.WriteFile(stray, []byte(podID("nobody")+"\r\neth0"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.janitor.sweepNow(context.Background()); err != nil {
		t.Fatal(err)
	}
	leases, err := filepath.Glob(filepath.Join(w.dir, "networks/berth/[1f]*"))
	if err != nil || len(leases) != 4 {
		t.Errorf("leases %v, %v", leases, err)
	}
	w.del(t, Attachment{ID: podID("before")})
	w.del(t, Attachment{ID: podID("since")})
	w.nothingLeft(t)
}
