package registry

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
)

var (
	// ErrNotFound: the registry says that it hasn't got it.
	ErrNotFound = errors.New("not found")
	// ErrDenied: the registry wants other credentials, or those given can't be read.
	ErrDenied = errors.New("access denied")
	// ErrUnavailable: nobody answered, or not with an answer.
	ErrUnavailable = errors.New("unavailable")
	// ErrCorrupt: a blob has more bytes than promised.
	ErrCorrupt = errors.New("corrupt")
)

// hostError is what one host answered.
type hostError struct {
	host string
	kind error
	err  error
}

// newHostError takes addresses that storage signed for one request, which are as good as a password, out of what is said of it.
func newHostError(host string, err error) hostError {
	var request *url.Error
	if errors.As(err, &request) {
		address, query, found := strings.Cut(request.URL, "?")
		if found && query != "" {
			request.URL = address
		}
	}
	return hostError{host: host, kind: kindOf(err), err: err}
}

// hostErrors are the answers of all hosts that were asked, in order.
type hostErrors []hostError

func (e hostErrors) Error() string {
	if len(e) == 0 {
		return "no host is configured to be asked"
	}
	parts := make([]string, len(e))
	for i, h := range e {
		parts[i] = h.host + ": " + oneLine(h.err)
	}
	return strings.Join(parts, "; ")
}

// Unwrap gives the kind of the last host's answer: the others are its mirrors.
func (e hostErrors) Unwrap() []error {
	if len(e) == 0 {
		return []error{ErrUnavailable}
	}
	last := e[len(e)-1]
	return []error{last.kind, last.err}
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", ": ") }

// kindOf sorts what containerd's client returns.
func kindOf(err error) error {
	var status remoteerrors.ErrUnexpectedStatus
	switch {
	case errdefs.IsNotFound(err):
		return ErrNotFound
	case errors.Is(err, docker.ErrInvalidAuthorization):
		return ErrDenied
	case errors.As(err, &status):
		return kindOfStatus(status.StatusCode)
	}
	return ErrUnavailable
}

func kindOfStatus(code int) error {
	switch code {
	case http.StatusNotFound:
		return ErrNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		return ErrDenied
	}
	return ErrUnavailable
}

func wrapHosts(verb string, what fmt.Stringer, errs hostErrors) error {
	return fmt.Errorf("%s %s: %w", verb, what, errs)
}
