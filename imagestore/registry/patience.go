package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

const (
	// How often a host that is busy is asked again.
	maxBusy = 4
	// The first pause before that, where the host names none; each next is twice as long.
	busyPause = 250 * time.Millisecond
	// idlePerHost is how many connections to one host stay for its next blobs: as many as layers are fetched at once.
	idlePerHost = 8
)

// errBusy: the host answered that it has too much to do, and went on to.
var errBusy = errors.New("host is busy")

// patient is a transport that asks a busy host again (429, 502, 503, 504), after the time that it names or a growing pause. Requests
// of a context by lastHost wait; others have somebody else to ask, and fail at once. Without it containerd's client repeats such requests at
// once, which is what the host asked not to.
type patient struct {
	next  http.RoundTripper
	pause time.Duration
	// longest is the longest time that a host may name.
	longest time.Duration
}

type lastHostKey struct{}

// lastHost marks the requests of a context: no other host can be asked.
func lastHost(ctx context.Context) context.Context {
	return context.WithValue(ctx, lastHostKey{}, true)
}

// RoundTrip makes it an http.RoundTripper.
func (p *patient) RoundTrip(req *http.Request) (*http.Response, error) {
	for try := 0; ; try++ {
		resp, err := p.next.RoundTrip(req)
		if err != nil || !isBusy(resp.StatusCode) {
			return resp, err
		}
		wait, named := retryAfter(resp.Header, time.Now())
		if !named {
			wait = p.pause << try
		}
		again, possible := repeatable(req)
		if req.Context().Value(lastHostKey{}) == nil || try >= maxBusy || wait > p.longest || !possible {
			return p.giveUp(resp, named, wait)
		}
		drain(resp)
		if err := rest(req.Context(), wait); err != nil {
			return nil, err
		}
		req = again
	}
}

type restKey struct{}

// OnRest has resting called before each pause that a busy host asked for, with its length, in requests of the context that it returns: whoever
// watches over progress must not take the pause for a lack of it.
func OnRest(ctx context.Context, resting func(time.Duration)) context.Context {
	outer, nested := ctx.Value(restKey{}).(func(time.Duration))
	return context.WithValue(ctx, restKey{}, func(d time.Duration) {
		if nested {
			outer(d)
		}
		resting(d)
	})
}

// rest waits, and doesn't count as waiting for the host.
func rest(ctx context.Context, wait time.Duration) error {
	if resting, told := ctx.Value(restKey{}).(func(time.Duration)); told {
		resting(wait)
	}
	if p, watched := ctx.Value(paceKey{}).(*pace); watched {
		p.got(0)
		defer p.waits()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// giveUp: 429 becomes an error, as containerd's client would repeat the request; what the registry says to the others is for its user.
func (p *patient) giveUp(resp *http.Response, named bool, wait time.Duration) (*http.Response, error) {
	if resp.StatusCode != http.StatusTooManyRequests {
		return resp, nil
	}
	drain(resp)
	if named {
		return nil, fmt.Errorf("%w: %s, to be asked again in %s", errBusy, resp.Status, wait.Round(time.Second))
	}
	return nil, fmt.Errorf("%w: %s", errBusy, resp.Status)
}

// CloseIdleConnections is what http.Client asks of its transport.
func (p *patient) CloseIdleConnections() {
	(&http.Client{Transport: p.next}).CloseIdleConnections()
}

func isBusy(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// retryAfter reads the header of that name: seconds, or a date (RFC 9110, section 10.2.3).
func retryAfter(header http.Header, now time.Time) (wait time.Duration, named bool) {
	value := header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second, true
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now)), true
	}
	return 0, false
}

// repeatable gives the request anew, unless it has a body that can't be sent twice.
func repeatable(req *http.Request) (*http.Request, bool) {
	if req.Body == nil || req.Body == http.NoBody {
		return req, true
	}
	if req.GetBody == nil {
		return nil, false
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, false
	}
	again := req.Clone(req.Context())
	again.Body = body
	return again, true
}

// drain lets the connection be used again.
func drain(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // a longer body costs the connection, no more
	resp.Body.Close()
}

// patience is config.HostOptions.UpdateClient: containerd's configuration calls it for each client, for some twice.
func (c *Client) patience(client *http.Client) error {
	if _, done := client.Transport.(*patient); done {
		return nil
	}
	if transport, is := client.Transport.(*http.Transport); is {
		transport.MaxIdleConnsPerHost = idlePerHost
	}
	client.Transport = &patient{next: &abroad{&spanning{client.Transport}}, pause: c.busyPause, longest: c.Stall / 2}
	return nil
}
