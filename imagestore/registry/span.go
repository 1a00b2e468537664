package registry

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// errNoRanges: a host's answer to a request for a part isn't that part. Reading goes on without such requests.
var errNoRanges = errors.New("host doesn't serve ranges")

// span is the part of a blob that the requests of a context are for: from wherever they begin to its end.
type span struct {
	digest string // as it stands in the address of a request for a blob
	end    int64  // one more than the last byte's number
	size   int64  // of the blob
	seen   func(etag string) error
}

type spanKey struct{}

// spanning is a transport that bounds requests of a context with a span, which containerd's client leaves open at their end, and checks what
// comes (RFC 9110, section 14). An answer that isn't the part asked for is errNoRanges.
type spanning struct{ next http.RoundTripper }

// RoundTrip makes it an http.RoundTripper.
func (t *spanning) RoundTrip(req *http.Request) (*http.Response, error) {
	s, bounded := req.Context().Value(spanKey{}).(*span)
	if !bounded || !s.meant(req) {
		return t.resume(req)
	}
	begin, err := firstByte(req.Header.Get("Range"))
	if err != nil {
		return nil, err
	}
	req = req.Clone(req.Context())
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", begin, s.end-1))
	req.Header.Set("Accept-Encoding", "identity") // ranges are of what is sent, and digests of what is meant
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	switch resp.StatusCode {
	case http.StatusPartialContent:
		err = s.check(resp.Header, begin)
	case http.StatusOK, http.StatusRequestedRangeNotSatisfiable:
		err = fmt.Errorf("%w: it answers %s", errNoRanges, resp.Status)
	}
	if err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// resume checks the answer to a request for the rest of something, as containerd's client believes whatever comes as a part. What begins at the
// beginning is the whole: the client skips what it has of that.
func (t *spanning) resume(req *http.Request) (*http.Response, error) {
	begin, err := firstByte(req.Header.Get("Range"))
	if err != nil || begin == 0 {
		return t.next.RoundTrip(req)
	}
	req = req.Clone(req.Context())
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := t.next.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusPartialContent {
		return resp, err
	}
	text := resp.Header.Get("Content-Range")
	var first int64
	switch n, _ := fmt.Sscanf(text, "bytes %d-", &first); {
	case n == 1 && first == 0:
		resp.StatusCode, resp.Status = http.StatusOK, "200 OK"
		resp.Header.Del("Content-Range")
	case n == 1 && first != begin:
		resp.Body.Close()
		return nil, fmt.Errorf("%w: asked for the bytes from %d on it sends %q", ErrUnavailable, begin, text)
	}
	return resp, nil
}

// CloseIdleConnections is what http.Client asks of its transport.
func (t *spanning) CloseIdleConnections() {
	(&http.Client{Transport: t.next}).CloseIdleConnections()
}

// meant tells a request for the blob, and what it was redirected to, from one for a token that it needs.
func (s *span) meant(req *http.Request) bool {
	req = firstOf(req)
	return req.Method == http.MethodGet && strings.HasSuffix(req.URL.Path, "/blobs/"+s.digest)
}

// firstByte reads "bytes=7-". Without the header it is 0.
func firstByte(header string) (int64, error) {
	if header == "" {
		return 0, nil
	}
	digits, found := strings.CutPrefix(header, "bytes=")
	begin, err := strconv.ParseInt(strings.TrimSuffix(digits, "-"), 10, 64)
	if !found || err != nil {
		return 0, fmt.Errorf("%w: request for %q", errNoRanges, header)
	}
	return begin, nil
}

// check: a host may send less than was asked for, but nothing else.
func (s *span) check(header http.Header, begin int64) error {
	if coding := header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return fmt.Errorf("%w: it sends them in %s", errNoRanges, coding)
	}
	text := header.Get("Content-Range")
	part, total, found := strings.Cut(strings.TrimPrefix(text, "bytes "), "/")
	from, to, also := strings.Cut(part, "-")
	first, err := strconv.ParseInt(from, 10, 64)
	last, err2 := strconv.ParseInt(to, 10, 64)
	switch {
	case !found || !also || err != nil || err2 != nil, first != begin, last < first, last >= s.end, total != "*" && total != strconv.FormatInt(s.size, 10):
		return fmt.Errorf("%w: asked for bytes %d-%d/%d it sends %q", errNoRanges, begin, s.end-1, s.size, text)
	}
	return s.seen(header.Get("ETag"))
}
