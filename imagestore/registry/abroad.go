package registry

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// abroad is a transport that keeps what is for one host from those that it redirects to. net/http takes headers along, those of hosts.toml and, to
// other ports and subdomains, Authorization too; and it sends a body again, in which a token server is given the password. Whoever serves those
// needn't be the registry.
type abroad struct{ next http.RoundTripper }

// whatIsAsked are the headers that say what is wanted, and in which form.
var whatIsAsked = []string{"Accept", "Accept-Encoding", "Range", "User-Agent"}

// RoundTrip makes it an http.RoundTripper.
func (t *abroad) RoundTrip(req *http.Request) (*http.Response, error) {
	if first := firstOf(req); sameHost(first.URL, req.URL) {
		return t.next.RoundTrip(req)
	}
	if req.Body != nil && req.Body != http.NoBody {
		req.Body.Close() // as http.RoundTripper must, also after an error
		return nil, fmt.Errorf("%w: redirected to %s, which must not be shown what is for another host", ErrUnavailable, req.URL.Host)
	}
	bare := req.Clone(req.Context())
	bare.Header = http.Header{}
	for _, name := range whatIsAsked {
		if values := req.Header.Values(name); len(values) > 0 {
			bare.Header[name] = values
		}
	}
	return t.next.RoundTrip(bare)
}

// CloseIdleConnections is what http.Client asks of its transport.
func (t *abroad) CloseIdleConnections() {
	(&http.Client{Transport: t.next}).CloseIdleConnections()
}

// firstOf is the request that redirections began with.
func firstOf(req *http.Request) *http.Request {
	for req.Response != nil {
		req = req.Response.Request
	}
	return req
}

// sameHost: what was for TLS isn't for the same host without.
func sameHost(first, now *url.URL) bool {
	if first.Scheme != now.Scheme && now.Scheme != "https" {
		return false
	}
	return strings.EqualFold(first.Host, now.Host) || strings.EqualFold(withoutPort(first), withoutPort(now))
}

// withoutPort is a host as it is without the port that its scheme has anyhow: proxies redirect with it written out.
func withoutPort(u *url.URL) string {
	if port := map[string]string{"http": "80", "https": "443"}[u.Scheme]; u.Port() == port {
		return strings.TrimSuffix(u.Host, ":"+port)
	}
	return u.Host
}
