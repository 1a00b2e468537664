package link

import (
	"errors"
	"net/netip"
	"testing"
	"time"
)

func TestMemoForgetsWhatIsTooOld(t *testing.T) {
	m := NewMemo(time.Millisecond)
	calls := 0
	count := func() (string, error) { calls++; return "x", nil }
	for i := range 1000 {
		if _, err := m.Do(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String(), count); err != nil {
			t.Fatal(err)
		}
		if i%100 == 99 {
			time.Sleep(2 * time.Millisecond)
		}
	}
	if n := len(m.done); calls != 1000 || n > 200 {
		t.Errorf("%d calls, %d remembered", calls, n)
	}
	if _, err := m.Do("bad", func() (string, error) { return "", errors.New("no") }); err == nil {
		t.Error("an error is forgotten")
	}
	again := NewMemo(time.Hour)
	for range 3 {
		if v, err := again.Do("once", count); v != "x" || err != nil {
			t.Error(v, err)
		}
	}
	if calls != 1001 {
		t.Errorf("%d calls", calls)
	}
}
