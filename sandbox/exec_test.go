package sandbox

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/berth-runtime/berth/sandbox/spec"
)

func TestExecSync(t *testing.T) {
	d := newWorld(t).start()
	id := d.create(d.runPod(podConfig("web")), containerConfig("c"))
	d.begin(id)
	got, err := d.m.ExecSync(t.Context(), id, []string{"sh", "-c", "echo out; echo err >&2; exit 7"}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Stdout) != "out\n" || string(got.Stderr) != "err\n" || got.ExitCode != 7 {
		t.Errorf("got %+v", got)
	}
	got, err = d.m.ExecSync(t.Context(), id, []string{"sh", "-c", "kill -TERM $$"}, 0)
	if err != nil || got.ExitCode != 143 {
		t.Errorf("killed command: %+v, %v", got, err)
	}
	if _, err := d.m.ExecSync(t.Context(), id, nil, 0); !errors.Is(err, spec.ErrInvalid) {
		t.Errorf("no command: %v", err)
	}
	d.settled()
}

func TestExecSyncTimeout(t *testing.T) {
	d := newWorld(t).start()
	id := d.create(d.runPod(podConfig("web")), containerConfig("c"))
	d.begin(id)
	start := time.Now()
	_, err := d.m.ExecSync(t.Context(), id, []string{"sh", "-c", "sleep 1000 & sleep 1000"}, 50*time.Millisecond)
	if !errors.Is(err, ErrTimeout) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took < 50*time.Millisecond || took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := d.m.ExecSync(ctx, id, []string{"sleep", "1000"}, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestExecSyncDoesNotWaitForWhoHoldsThePipe(t *testing.T) {
	d := newWorld(t).start()
	id := d.create(d.runPod(podConfig("web")), containerConfig("c"))
	d.begin(id)
	start := time.Now()
	got, err := d.m.ExecSync(t.Context(), id, []string{"sh", "-c", "sleep 3 & echo started"}, 0)
	if err != nil || string(got.Stdout) != "started\n" {
		t.Errorf("got %+v, %v", got, err)
	}
	if took := time.Since(start); took > 2500*time.Millisecond {
		t.Errorf("it took %s", took)
	}
}

func TestExecSyncBoundsItsOutput(t *testing.T) {
	d := newWorld(t).start()
	id := d.create(d.runPod(podConfig("web")), containerConfig("c"))
	d.begin(id)
	got, err := d.m.ExecSync(t.Context(), id, []string{"sh", "-c", "head -c 20000000 /dev/zero; echo end >&2"}, 0)
	if err != nil || got.ExitCode != 0 {
		t.Fatalf("got %v", err)
	}
	if n := len(got.Stdout) + len(got.Stderr); n != maxExecOutput || string(got.Stderr) != "end\n" {
		t.Errorf("kept %d bytes, and %q", n, got.Stderr)
	}
}

func TestTrim(t *testing.T) {
	for _, c := range []struct{ out, err, most, wantOut, wantErr int }{
		{3, 4, 10, 3, 4}, {8, 2, 10, 8, 2}, {20, 2, 10, 8, 2}, {2, 20, 10, 2, 8}, {20, 20, 10, 5, 5}, {20, 7, 10, 5, 5},
	} {
		r := ExecResult{Stdout: bytes.Repeat([]byte{'o'}, c.out), Stderr: bytes.Repeat([]byte{'e'}, c.err)}
		r.trim(c.most)
		if len(r.Stdout) != c.wantOut || len(r.Stderr) != c.wantErr {
			t.Errorf("%+v: got %d and %d", c, len(r.Stdout), len(r.Stderr))
		}
	}
}
