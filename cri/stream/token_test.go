package stream

import (
	"errors"
	"testing"
	"time"
)

func TestTokens(t *testing.T) {
	now := time.Unix(1000, 0)
	k := newTokens(func() time.Time { return now })
	give := func(what string) string {
		t.Helper()
		token, err := k.give(what)
		if err != nil || len(token) < 26 {
			t.Fatalf("token %q, %v", token, err)
		}
		return token
	}
	a, b := give("a"), give("b")
	if got := k.take(a); got != "a" {
		t.Errorf("took %v", got)
	}
	if got := k.take(a); got != nil {
		t.Error("a token was taken twice")
	}
	now = now.Add(tokenTime + time.Second)
	if got := k.take(b); got != nil {
		t.Error("a token was taken after its time")
	}
	if got := k.take("guess"); got != nil {
		t.Error("a guess was taken")
	}
}

func TestTokensAreBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	k := newTokens(func() time.Time { return now })
	for i := range maxTokens {
		if _, err := k.give(i); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.give("more"); !errors.Is(err, ErrBusy) {
		t.Errorf("one more: %v", err)
	}
	now = now.Add(tokenTime + time.Second) // those that nobody came for make room
	if _, err := k.give("more"); err != nil {
		t.Error(err)
	}
	if len(k.waiting) != 1 {
		t.Errorf("%d still wait", len(k.waiting))
	}
}
