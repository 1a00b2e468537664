package stream

import (
	"crypto/rand"
	"errors"
	"sync"
	"time"
)

const (
	// tokenTime is how long a token waits for its client.
	tokenTime = time.Minute
	// maxTokens is how many may wait.
	maxTokens = 1000
)

// ErrBusy: too many sessions were asked for that nobody has come for.
var ErrBusy = errors.New("too many streams wait for their clients")

// tokens keeps what was asked for until a client comes with the token.
type tokens struct {
	now func() time.Time

	mu      sync.Mutex
	waiting map[string]waiting
}

type waiting struct {
	request any
	until   time.Time
}

func newTokens(now func() time.Time) *tokens {
	return &tokens{now: now, waiting: map[string]waiting{}}
}

// give returns a token that nobody can guess. ErrBusy: too many wait.
func (t *tokens) give(request any) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if len(t.waiting) >= maxTokens {
		for token, w := range t.waiting {
			if now.After(w.until) {
				delete(t.waiting, token)
			}
		}
	}
	if len(t.waiting) >= maxTokens {
		return "", ErrBusy
	}
	token := rand.Text()
	t.waiting[token] = waiting{request, now.Add(tokenTime)}
	return token, nil
}

// take returns what a token stands for, once and in time; otherwise nil.
func (t *tokens) take(token string) any {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.waiting[token]
	delete(t.waiting, token)
	if t.now().After(w.until) {
		return nil
	}
	return w.request
}
