package wire

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-runtime/berth/oci/launch"
)

var records = []*Record{
	{Key: "k"},
	{Key: "web", HasProgram: true, Slots: 300, Streams: []string{"stdout", "stderr"}, Journals: true, Logs: 1, Generation: 7, MaxLine: 16384},
	{Key: strings.Repeat("x", 255), HasPidFD: true, PID: 4711, Holds: []string{"net", "ipc"}, Oneshot: true},
	{Key: "gone", Logs: 2, PID: 1, Exit: &Exit{Status: 0x0900, Known: true, At: time.Unix(12, 345)}},
	{Key: "seen", Streams: []string{"stderr"}, Position: 1 << 40},
	{Key: "timed", HasProgram: true, Timed: true},
	{Key: "unknown", Exit: &Exit{At: time.Unix(0, 1)}},
}

func TestRecordRoundTrip(t *testing.T) {
	for _, r := range records {
		body := r.Append(nil)
		got, err := ParseRecord(append(body, "fields of a later version"...), r.Files())
		if err != nil {
			t.Fatalf("%s: %v", r.Key, err)
		}
		if !reflect.DeepEqual(got, r) {
			t.Errorf("got %+v, want %+v", got, r)
		}
		for n := range body {
			if _, err := ParseRecord(body[:n], r.Files()); !errors.Is(err, ErrFormat) {
				t.Fatalf("%s cut at %d: error %v", r.Key, n, err)
			}
		}
		if _, err := ParseRecord(body, r.Files()+1); !errors.Is(err, ErrFormat) {
			t.Errorf("%s with a descriptor too many: error %v", r.Key, err)
		}
	}
}

func TestRecordCheckRefusesWhatDoesNotFit(t *testing.T) {
	for name, r := range map[string]*Record{
		"empty key":      {},
		"long key":       {Key: strings.Repeat("x", 256)},
		"empty hold":     {Key: "k", Holds: []string{""}},
		"many streams":   {Key: "k", Streams: make([]string, MaxStreams+1)},
		"three logs":     {Key: "k", Logs: 3},
		"negative slots": {Key: "k", Slots: -1},
		"many slots":     {Key: "k", Slots: MaxFiles + 1},
	} {
		if err := r.Check(); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestHelloAndResultRoundTrip(t *testing.T) {
	h := Hello{Version: Version, PID: 99999, Refused: true}
	if got, err := ParseHello(h.Append(nil)); err != nil || got != h {
		t.Errorf("hello %+v, %v", got, err)
	}
	r := Result{Code: StepFailed, Errno: syscall.ENOSPC, Step: 12, PID: 7, Text: "no space", Position: 1 << 40}
	body := r.Append(nil)
	if got, err := ParseResult(body); err != nil || got != r {
		t.Errorf("result %+v, %v", got, err)
	}
	if got, err := ParseResult(body[:len(body)-1]); err != nil || got != r {
		t.Errorf("result of a keeper that knows no times: %+v, %v", got, err)
	}
	timed := Result{PID: 7, Times: &launch.Times{Ordered: 1 << 60, Begun: 2, Done: 3, Steps: []int64{4, 0, 1<<60 + 5}}}
	body = timed.Append(nil)
	if got, err := ParseResult(append(body, "fields of a later version"...)); err != nil || !reflect.DeepEqual(got, timed) {
		t.Errorf("result with times: %+v, %v", got, err)
	}
	if _, err := ParseResult(body[:len(body)-1]); !errors.Is(err, ErrFormat) {
		t.Errorf("times that end early: %v", err)
	}
	long := Result{Text: strings.Repeat("x", 5000)}
	if got, err := ParseResult(long.Append(nil)); err != nil || len(got.Text) != 1024 {
		t.Errorf("long text: %d bytes, %v", len(got.Text), err)
	}
}

func TestParseHeaderRefuses(t *testing.T) {
	good := header{kind: KindForget, id: 5, body: 2, files: 1}.append(nil)
	good = append(good, "xy"...)
	if _, err := parseHeader(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(p []byte) []byte{
		"short":          func(p []byte) []byte { return p[:15] },
		"magic":          func(p []byte) []byte { p[0] = 'x'; return p },
		"kind 0":         func(p []byte) []byte { p[2] = 0; return p },
		"unknown kind":   func(p []byte) []byte { p[2] = byte(kindEnd); return p },
		"body too short": func(p []byte) []byte { return p[:17] },
		"body too long":  func(p []byte) []byte { return append(p, 1) },
		"many files":     func(p []byte) []byte { p[15] = 1; return p },
	} {
		if _, err := parseHeader(change(bytes.Clone(good))); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// FuzzParse holds all decoders against hostile bytes: no crash, and what parses says the same again
// after a round trip.
func FuzzParse(f *testing.F) {
	for _, r := range records {
		body := r.Append(nil)
		f.Add(append(header{kind: KindKept, id: 1, body: len(body), files: r.Files()}.append(nil), body...))
	}
	body := Result{Code: Failed, Text: "why"}.Append(nil)
	f.Add(append(header{kind: KindDone, id: 9, body: len(body)}.append(nil), body...))
	f.Fuzz(func(t *testing.T, p []byte) {
		h, err := parseHeader(p)
		if err != nil {
			return
		}
		body := p[headerLen:]
		if r, err := ParseRecord(body, h.files); err == nil {
			again, err := ParseRecord(r.Append(nil), r.Files())
			if err != nil || !reflect.DeepEqual(r, again) {
				t.Fatalf("%+v became %+v, %v", r, again, err)
			}
		}
		if r, err := ParseResult(body); err == nil && len(r.Text) <= 1024 {
			if again, err := ParseResult(r.Append(nil)); err != nil || !reflect.DeepEqual(again, r) {
				t.Fatalf("%+v became %+v, %v", r, again, err)
			}
		}
		if h, err := ParseHello(body); err == nil {
			if _, err := ParseHello(h.Append(nil)); err != nil {
				t.Fatal(err)
			}
		}
	})
}
